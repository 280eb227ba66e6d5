/* SPDX-License-Identifier: Apache-2.0 */
#include "jobs/jobs.h"

#include "base/str.h"

static const struct json_field target_fields[] = {
    F_STRING(struct job_target, pool, .required = true, .nullable = true),
    F_STRING(struct job_target, run_dir, .required = true, .nullable = true),
    F_STRING(struct job_target, cgroup, .required = true, .nullable = true),
    F_INT(struct job_target, slot, .required = true),
};
JSON_TABLE(job_target_table, "target", target_fields);

static const struct json_field pool_open_fields[] = {
    F_STRING(struct job_pool_open, loop_file, .nullable = true),
    F_INT(struct job_pool_open, loop_bytes),
    F_BOOL(struct job_pool_open, must_exist),
    F_BOOL(struct job_pool_open, quota),
};
JSON_TABLE(job_pool_open_table, "pool.open", pool_open_fields);

static const struct json_field reclaim_fields[] = {
    F_INT(struct job_reclaim, most, .required = true, .min = 0, .max = INT64_MAX),
    F_JSON(struct job_reclaim, ours, .nullable = true, .has_type = true, .type = JSON_ARRAY),
};
JSON_TABLE(job_reclaim_table, "node.reclaim", reclaim_fields);

static const struct json_field scrub_fields[] = {
    F_INT(struct job_scrub, devid, .required = true, .min = 0, .max = INT64_MAX),
    F_INT(struct job_scrub, next, .required = true, .min = 0, .max = INT64_MAX),
    F_INT(struct job_scrub, rate, .required = true, .min = 0, .max = INT64_MAX),
    F_INT(struct job_scrub, budget_ms, .required = true, .min = 0, .max = INT64_MAX),
};
JSON_TABLE(job_scrub_table, "node.scrub", scrub_fields);

static const struct json_field image_import_fields[] = {
    F_STRING(struct job_image_import, file, .nullable = true),
    F_STRING(struct job_image_import, metadata_file, .nullable = true),
    F_INT(struct job_image_import, split_bytes, .min = 0, .max = INT64_MAX),
    F_STRING(struct job_image_import, fingerprint, .nullable = true),
};
JSON_TABLE(job_image_import_table, "image.import", image_import_fields);

static const struct json_field export_fields[] = {
    F_BOOL(struct job_export, as_stream),
    F_STRING(struct job_export, snapshot, .nullable = true),
    F_JSON(struct job_export, header, .required = true, .has_type = true, .type = JSON_OBJECT),
};
JSON_TABLE(job_export_table, "container.export", export_fields);

static const struct json_field import_fields[] = {
    F_JSON(struct job_import, seed, .required = true, .has_type = true, .type = JSON_OBJECT),
    F_BOOL(struct job_import, rename),
    F_INT(struct job_import, reserve_bytes, .min = 0, .max = INT64_MAX),
};
JSON_TABLE(job_import_table, "container.import", import_fields);

static const struct json_field image_fetch_fields[] = {
    F_BOOL(struct job_image_fetch, look),
    F_JSON(struct job_image_fetch, urls, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_STRING(struct job_image_fetch, name, .required = true),
    F_STRING(struct job_image_fetch, ca_file, .nullable = true),
};
JSON_TABLE(job_image_fetch_table, "image.fetch", image_fetch_fields);

static const struct json_field image_publish_fields[] = {
    F_STRING(struct job_image_publish, snapshot, .nullable = true)};
JSON_TABLE(job_image_publish_table, "image.publish", image_publish_fields);

static const struct json_field image_fields[] = {F_STRING(struct job_image, fingerprint, .required = true)};
JSON_TABLE(job_image_table, "image", image_fields);

static const struct json_field image_base_fields[] = {
    F_STRING(struct job_image_base, fingerprint, .required = true),
    F_INT(struct job_image_base, base, .required = true),
    F_INT(struct job_image_base, reserve_bytes, .required = true),
};
JSON_TABLE(job_image_base_table, "image.base", image_base_fields);

static const struct json_field kit_install_fields[] = {
    F_STRING(struct job_kit_install, file, .required = true),
    F_STRING(struct job_kit_install, public_key, .required = true),
};
JSON_TABLE(job_kit_install_table, "kit.install", kit_install_fields);

static const struct json_field kit_remove_fields[] = {
    F_STRING(struct job_kit_remove, name, .required = true),
    F_STRING(struct job_kit_remove, version, .required = true),
    F_STRING(struct job_kit_remove, dir, .required = true),
};
JSON_TABLE(job_kit_remove_table, "kit.remove", kit_remove_fields);

static const struct json_field kits_fields[] = {
    F_JSON(struct job_kits, before, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_JSON(struct job_kits, kits, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_INT(struct job_kits, timeout_ms, .required = true, .min = 1, .max = 600000),
    F_BOOL(struct job_kits, boot),
    F_BOOL(struct job_kits, start),
};
JSON_TABLE(job_kits_table, "kits", kits_fields);

static const struct json_field create_fields[] = {
    F_STRING(struct job_create, image, .nullable = true),
    F_INT(struct job_create, base),
    F_INT(struct job_create, source_slot),
    F_STRING(struct job_create, source_snapshot, .nullable = true),
    F_JSON(struct job_create, snapshots, .nullable = true, .has_type = true, .type = JSON_ARRAY),
    F_JSON(struct job_create, seed, .required = true, .has_type = true, .type = JSON_OBJECT),
};
JSON_TABLE(job_create_table, "container.create", create_fields);

static const struct json_field start_fields[] = {
    F_STRING(struct job_start, hostname, .required = true),
    F_INT(struct job_start, id_base, .required = true),
    F_STRING(struct job_start, link, .required = true),
    F_STRING(struct job_start, ipv4, .required = true),
    F_STRING(struct job_start, ipv6, .nullable = true),
    F_STRING(struct job_start, gateway4, .required = true),
    F_STRING(struct job_start, gateway6, .nullable = true),
    F_STRING(struct job_start, gateway_mac, .nullable = true),
    F_JSON(struct job_start, environment, .required = true, .has_type = true, .type = JSON_OBJECT),
    F_BOOL(struct job_start, subvolumes),
    F_INT(struct job_start, disk_bytes, .min = 0, .max = INT64_MAX),
    F_INT(struct job_start, ramdisk_bytes),
    F_STRING(struct job_start, ramdisk_project, .nullable = true, .valid = str_is_object_id),
    F_JSON(struct job_start, kits, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_JSON(struct job_start, files, .nullable = true, .has_type = true, .type = JSON_OBJECT),
    F_JSON(struct job_start, shares, .nullable = true, .has_type = true, .type = JSON_ARRAY),
};
JSON_TABLE(job_start_table, "container.start", start_fields);

static const struct json_field ipv6_fields[] = {
    F_BOOL(struct job_ipv6, wanted, .required = true),
    F_STRING(struct job_ipv6, ipv6, .required = true),
    F_STRING(struct job_ipv6, gateway6, .required = true),
    F_STRING(struct job_ipv6, gateway_mac, .required = true),
};
JSON_TABLE(job_ipv6_table, "container.ipv6", ipv6_fields);

static const struct json_field claim_fields[] = {
    F_JSON(struct job_claim, seed, .required = true, .has_type = true, .type = JSON_OBJECT),
    F_STRING(struct job_claim, machine_id, .required = true),
    F_INT(struct job_claim, timeout_ms, .required = true, .min = 1, .max = 600000),
};
JSON_TABLE(job_claim_table, "container.claim", claim_fields);

static const struct json_field stop_fields[] = {
    F_INT(struct job_stop, timeout_ms),
};
JSON_TABLE(job_stop_table, "container.stop", stop_fields);

static const struct json_field share_mount_fields[] = {
    F_STRING(struct share_mount, id, .required = true),
    F_INT(struct share_mount, source_slot, .required = true),
    F_STRING(struct share_mount, path, .required = true),
    F_BOOL(struct share_mount, readonly, .required = true),
};
JSON_TABLE(share_mount_table, "share", share_mount_fields);

static const struct json_field shares_fields[] = {
    F_INT(struct job_shares, id_base, .required = true, .min = 65536, .max = UINT32_MAX),
    F_JSON(struct job_shares, shares, .required = true, .has_type = true, .type = JSON_ARRAY),
};
JSON_TABLE(job_shares_table, "shares", shares_fields);

static const struct json_field mounts_fields[] = {
    F_INT(struct job_mounts, id_base, .required = true, .min = 65536, .max = UINT32_MAX),
    F_INT(struct job_mounts, ramdisk_bytes, .min = 0, .max = INT64_MAX),
    F_STRING(struct job_mounts, ramdisk_project, .nullable = true, .valid = str_is_object_id),
    F_BOOL(struct job_mounts, kits),
    F_JSON(struct job_mounts, shares, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_BOOL(struct job_mounts, ask),
};
JSON_TABLE(job_mounts_table, "mounts", mounts_fields);

static const struct json_field sync_fields[] = {
    F_INT(struct job_sync, source_slot, .required = true),
    F_JSON(struct job_sync, seed, .required = true, .has_type = true, .type = JSON_OBJECT),
};
JSON_TABLE(job_sync_table, "sync", sync_fields);

static const struct json_field peer_fields[] = {
    F_STRING(struct job_peer, host, .required = true),
    F_INT(struct job_peer, port, .required = true, .min = 1, .max = 65535),
    F_STRING(struct job_peer, certificate, .required = true),
    F_STRING(struct job_peer, key, .required = true),
    F_STRING(struct job_peer, ca, .required = true),
    F_STRING(struct job_peer, crl, .nullable = true),
};
JSON_TABLE(job_peer_table, "peer", peer_fields);

static const struct json_field peer_call_fields[] = {
    F_JSON(struct job_peer_call, peer, .required = true, .has_type = true, .type = JSON_OBJECT),
    F_STRING(struct job_peer_call, method, .required = true),
    F_STRING(struct job_peer_call, path, .required = true),
    F_JSON(struct job_peer_call, body, .nullable = true, .has_type = true, .type = JSON_OBJECT),
    F_INT(struct job_peer_call, timeout_s, .required = true, .min = 1, .max = JOB_STREAM_MS / 1000),
};
JSON_TABLE(job_peer_call_table, "peer.call", peer_call_fields);

static const struct json_field peer_send_fields[] = {
    F_BOOL(struct job_peer_send, packed),
    F_STRING(struct job_peer_send, copy, .required = true, .valid = str_is_object_id),
    F_STRING(struct job_peer_send, image, .nullable = true),
    F_INT(struct job_peer_send, image_base, .min = 0, .max = INT64_MAX),
    F_STRING(struct job_peer_send, base, .nullable = true),
    F_STRING(struct job_peer_send, snapshot, .nullable = true),
    F_JSON(struct job_peer_send, snapshots, .required = true, .has_type = true, .type = JSON_ARRAY),
};
JSON_TABLE(job_peer_send_table, "peer.send", peer_send_fields);

static const struct json_field peer_forget_fields[] = {
    F_STRING(struct job_peer_forget, copy, .required = true, .valid = str_is_object_id),
};
JSON_TABLE(job_peer_forget_table, "peer.forget", peer_forget_fields);

static const struct json_field peer_fetch_fields[] = {
    F_JSON(struct job_peer_fetch, peer, .required = true, .has_type = true, .type = JSON_OBJECT),
    F_STRING(struct job_peer_fetch, source, .required = true, .valid = str_is_object_id),
    F_STRING(struct job_peer_fetch, copy, .required = true, .valid = str_is_object_id),
    F_STRING(struct job_peer_fetch, image, .nullable = true),
    F_STRING(struct job_peer_fetch, snapshot, .nullable = true),
    F_JSON(struct job_peer_fetch, snapshots, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_INT(struct job_peer_fetch, bytes_max, .required = true, .min = 0, .max = INT64_MAX),
    F_INT(struct job_peer_fetch, reserve, .required = true, .min = 0, .max = INT64_MAX),
    F_JSON(struct job_peer_fetch, seed, .required = true, .has_type = true, .type = JSON_OBJECT),
};
JSON_TABLE(job_peer_fetch_table, "peer.fetch", peer_fetch_fields);

static const struct json_field snapshot_fields[] = {
    F_STRING(struct job_snapshot, name, .required = true),
    F_STRING(struct job_snapshot, previous, .nullable = true),
    F_BOOL(struct job_snapshot, hold),
};
JSON_TABLE(job_snapshot_table, "snapshot", snapshot_fields);

static const struct json_field env_fields[] = {
    F_JSON(struct job_env, environment, .required = true, .has_type = true, .type = JSON_OBJECT),
    F_INT(struct job_env, disk_bytes, .min = 0, .max = INT64_MAX),
};
JSON_TABLE(job_env_table, "env.write", env_fields);

static const struct json_field ssh_fields[] = {
    F_STRING(struct job_ssh, ssh_public_key, .required = true, .nullable = true),
    F_JSON(struct job_ssh, removed, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_INT(struct job_ssh, disk_bytes, .min = 0, .max = INT64_MAX),
};
JSON_TABLE(job_ssh_table, "ssh.write", ssh_fields);

static const struct json_field disk_fields[] = {
    F_INT(struct job_disk, bytes, .required = true),
};
JSON_TABLE(job_disk_table, "container.disk", disk_fields);

static const struct json_field ramdisk_fields[] = {
    F_INT(struct job_ramdisk, bytes, .required = true),
    F_STRING(struct job_ramdisk, project, .nullable = true, .valid = str_is_object_id),
    F_INT(struct job_ramdisk, id_base, .required = true),
};
JSON_TABLE(job_ramdisk_table, "ramdisk.set", ramdisk_fields);

static const struct json_field ramdisk_drop_fields[] = {
    F_JSON(struct job_ramdisk_drop, keep, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_STRING(struct job_ramdisk_drop, project, .nullable = true, .valid = str_is_object_id),
};
JSON_TABLE(job_ramdisk_drop_table, "ramdisk.drop", ramdisk_drop_fields);

static const struct json_field look_fields[] = {
    F_BOOL(struct job_look, services),
};
JSON_TABLE(job_look_table, "look", look_fields);

static const struct job_info infos[] = {
#define X(kind, name_, table, deadline) [kind] = {.name = (name_), .args = (table), .deadline_ms = (deadline)},
    JOB_MAP(X)
#undef X
};

const struct job_info *job_info(enum job_kind kind)
{
    return &infos[kind];
}

enum job_kind job_kind_find(const char *name)
{
    for (int i = 0; i < JOB_KIND_MAX; i++)
        if (strcmp(infos[i].name, name) == 0)
            return (enum job_kind)i;
    return JOB_KIND_MAX;
}

json_t *job_request(enum job_kind kind, const struct job_target *target, const void *args)
{
    return json_pack("{s:s, s:o, s:o}", "job", infos[kind].name, "target", json_table_save(&job_target_table, target),
                     "args", args ? json_table_save(infos[kind].args, args) : json_object());
}

# SPDX-License-Identifier: Apache-2.0
"""
Every place that deletes a root file system, a snapshot or an image, or the row of one, with the reason why it may. A new caller is
refused until it stands here; so is an entry whose caller is gone. The rule behind the list: what a node keeps is deleted because
somebody asked for it, or because it is half-made and has a temporary name - never because its row is missing.
"""
import re

DELETES = (r"\b(subvolume_delete|nested_destroy|job_do_destroy|reclaim_place)\s*\(|\b(JOB_DESTROY|JOB_TIDY|JOB_SNAPSHOT_DELETE|"
           r"JOB_IMAGE_REMOVE|JOB_IMAGE_BASE_REMOVE|STORE_CONTAINER_DELETE|STORE_SNAPSHOT_DELETE|STORE_IMAGE_DELETE)\b")

ASKED, TEMPORARY, UNDO = "somebody asked for it", "it has a temporary name: half-made", "undoes a step of an operation that failed"
CALLERS = {
    "agent/down.c": {"stage_destroy": "noded-down purge --data: " + ASKED},
    "agent/images/set.c": {"on_removed": ASKED + "; the subvolume is gone", "on_marked": ASKED + "; the row is marked first"},
    "agent/images/base.c": {"image_base_release": "a further copy of an image that stays"},
    "agent/reconcile.c": {
        "adopt": "tidy removes what has a temporary name, and a slot only without root, snapshots and processes",
        "reconcile_adopt": "only of a slot without root, snapshots and processes: others are quarantined"},
    "agent/operations/steps.c": {
        "step_clean": "create and copy of a container whose intent says that they did not finish; a recovery clears such intents",
        "step_destroy": ASKED + ", or " + UNDO},
    "agent/operations/sync.c": {"tidy": UNDO},
    "agent/operations/snapshot.c": {"unmake": UNDO, "drop": ASKED, "tidy": UNDO, "dropped": ASKED},
    "agent/operations/delete.c": {"gone": ASKED + "; the disk is gone"},
    "agent/operations/claim.c": {"claim_new": "the row of a spare container, whose disk becomes the new one's"},
    "agent/recovery/adopt.c": {"put_containers": "the row of a spare container whose slot has another disk"},
    "runtime/container/container.c": {
        "job_do_create": TEMPORARY, "remove_temporaries": TEMPORARY, "job_do_destroy": "the job itself; its callers stand here",
        "job_do_tidy": "only of a slot without root, snapshots and processes"},
    "runtime/container/rootfs.c": {"rootfs_replace": "the former root, after a restore or a sync that somebody asked for"},
    "runtime/container/snapshot.c": {"job_do_snapshot_delete": "the job itself; its callers stand here",
                                     "job_do_snapshot_restore": TEMPORARY},
    "runtime/container/sync.c": {"sync_make": TEMPORARY, "keep_base": "what the last sync received, after a newer one"},
    "runtime/transfer/sets_out.c": {"sets_out_tidy": "passing snapshots of a transfer, by the name that it gave them"},
    "runtime/transfer/peer_send.c": {"discard": "what was sent to a copy, kept for the next difference only"},
    "runtime/transfer/archive.c": {"job_do_export": TEMPORARY, "job_do_import": TEMPORARY},
    "runtime/transfer/archive_stream.c": {"take_over": TEMPORARY},
    "runtime/transfer/peer_fetch.c": {"fetch": TEMPORARY, "make_rootfs": TEMPORARY},
    "images/image.c": {"install": TEMPORARY, "image_remove": ASKED},
    "images/image_base.c": {"image_base_remove": "a further copy of an image that stays",
                            "image_base_make": "a further copy of an image that somebody removed meanwhile, and " + TEMPORARY},
    "images/image_publish.c": {"image_publish": TEMPORARY},
    "provisioning/install.c": {"sweep": TEMPORARY},
    "provisioning/bundle.c": {"install_new": TEMPORARY, "bundle_remove": ASKED},
    "storage/reclaim.c": {"destroy": "what is in the trash, where a deletion put it", "reclaim_place": "the definition"},
    "storage/nested.c": {"nested_destroy": "the definition"},
    "storage/subvolume.c": {"snapshot_whole": TEMPORARY, "subvolume_delete": "the definition"},
}
DECLARES = ("runtime/main.c", "runtime/transfer/main.c", "store/mirror.c")  # tables of names


def callers(text):
    """Pairs of function and line number."""
    function = None
    for number, line in enumerate(text.split("\n"), 1):
        named = re.match(r"[a-z].*?\b(\w+)\(", line)
        if named and not line.endswith(";"):
            function = named.group(1)
        code = re.sub(r"/\*.*?\*/|//.*", "", line)
        if re.search(DELETES, code) and not line.lstrip().startswith("*"):
            yield function, number


def breaches(path, text):
    if path in DECLARES or not path.startswith(("agent/", "runtime/", "storage/", "images/", "provisioning/")):
        return
    known, seen = CALLERS.get(path, {}), set()
    for function, number in callers(text):
        seen.add(function)
        if function not in known:
            yield number, f"{function}() deletes what a node keeps: say why it may, in tests/lint/deletions.py"
    for function in set(known) - seen:
        yield 1, f"tests/lint/deletions.py names {function}(), which deletes nothing"

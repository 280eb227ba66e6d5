/* SPDX-License-Identifier: Apache-2.0 */
/* The kits that are installed, the suite that new containers get, and what a container has. Loop thread only. */
#pragma once

#include "agent/agent.h"

/* The manifests of what is installed (the array is taken over); chooses the suite: of each kit that is enabled the
 * newest version, or the one that kits.enabled names. */
void kits_load(struct agent *a, json_t *manifests);
void kits_add(struct agent *a, json_t *manifest); /* borrowed; again is fine */
void kits_drop(struct agent *a, const char *name, const char *version);
/* The manifest of an installed kit, or NULL. Borrowed. */
json_t *kits_manifest(const struct agent *a, const char *name, const char *version);

/* The kits of the suite as {"name", "version"} array, for a new container of this image (NULL: of any); the caller's
 * reference. Kits for which the image is too old are left out. */
json_t *kits_of_suite(const struct agent *a, const char *image);
/* Whether a kit may be in a container of this image. */
bool kits_image_fits(const json_t *manifest, const char *image);
/* A container that has this kit, or is about to; NULL when there is none. */
const struct container *kits_user(const struct agent *a, const char *name, const char *version);
/* The entry of a list of {"name", "version"} by name, or NULL. Borrowed. */
const json_t *kits_entry(const json_t *kits, const char *name);
/* TCP ports of the container's kit services, and while its kits are changed of those to be; the caller frees them. */
uint16_t *kits_ports(const struct agent *a, const struct container *c, size_t *ret_count);

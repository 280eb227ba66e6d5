# SPDX-License-Identifier: Apache-2.0
"""
Who may touch a container's root file system. Its path may go to functions that deal with a subvolume or a mount as a whole,
or that open it as a root below which everything is confined (provisioning/confined.h); anything else could be led astray by
what its owner has put there. A name that is added to the list has to be read with that in mind.
"""
import re

PATHS = r"(?:layout_rootfs|layout_snapshot|layout_base|rootfs_mount_point|made_path)"
TEMPORARY = r"layout_temporary"  # of containers only below runtime/
WHOLE = {
    # subvolumes and mounts as a whole
    "subvolume_create", "subvolume_delete", "subvolume_exchange", "subvolume_exists", "subvolume_root", "subvolume_snapshot",
    "rootfs_replace", "quota_account_limit", "quota_account", "quota_account_pass_on", "quota_usage", "change_bytes", "nested_exist", "send_name",
    "rename", "rmdir", "umount2", "move_mount", "open_tree", "idmap_is_mount_point", "fd_mkdirs",
    # functions of the same file, whose argument is such a path too
    "hold", "sync_make", "carry_host_keys", "take_over", "unpack", "send_set", "open_subvolume", "open_dir", "image_publish",
    # confined
    "confined_open_root", "seeding", "seeding_imported",
    # texts
    "err_errno", "free", "steal", "layout_temporary", "set_new",
}


def blank(text):
    """Without comments and what stands in strings, in the same places."""
    text = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group(0)), text, flags=re.S)
    return re.sub(r'"(\\.|[^"\\\n])*"', lambda m: '"' + " " * (len(m.group(0)) - 2) + '"', text)


def callee(body, at):
    """The function whose argument stands at `at`, and None outside of calls."""
    depth, i = 0, at - 1
    while i >= 0 and not (body[i] == "(" and depth == 0):
        depth += {")": 1, "(": -1}.get(body[i], 0)
        if body[i] in ";{}" and depth == 0:
            return None
        i -= 1
    name = re.search(r"(\w+)\s*$", body[:i]) if i >= 0 else None
    return name.group(1) if name and name.group(1) not in ("if", "while", "return") else None


def breaches(path, text):
    """Pairs of line number and text."""
    text, makers = blank(text), PATHS + ("" if not path.startswith("runtime/") else "|" + TEMPORARY)
    for function in re.finditer(r"^\{\n(.*?)^\}", text, flags=re.S | re.M):
        body = function.group(1)
        names = set(re.findall(rf"\*?(\w+)\s*=\s*(?:[^;,=]*\?\s*)?(?:{makers})\(", body))
        for name in names:
            for use in re.finditer(rf"(?<![\w.>]){re.escape(name)}\b(?!\s*=[^=])", body):
                by = callee(body, use.start())
                if by and by not in WHOLE:
                    line = text.count("\n", 0, function.start(1) + use.start()) + 1
                    yield line, f"'{name}' is the path of a root file system: {by}() is not known to stay out of it or below it"

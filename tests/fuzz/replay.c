/* SPDX-License-Identifier: Apache-2.0 */
/* Without libFuzzer: runs a target once over each file of the directories it is given. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int main(int argc, char **argv)
{
    int count = 0;

    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        const struct dirent *entry;

        while (d && (entry = readdir(d))) {
            autofree char *path = str_fmt("%s/%s", argv[i], entry->d_name), *text = NULL;
            size_t len = 0;

            if (entry->d_type != DT_REG)
                continue;
            err_ignore(fd_read_file(path, 1 << 20, &text, &len));
            if (text)
                (void)LLVMFuzzerTestOneInput((const uint8_t *)text, len);
            count += text != NULL;
        }
        if (d)
            closedir(d);
    }
    printf("%d inputs\n", count);
    return count == 0;
}

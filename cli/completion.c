/* SPDX-License-Identifier: Apache-2.0 */
/* The bash completion script, made from the command table: it has no list of its own that could grow old. */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"

static void words_of(const char *first)
{
    const char *last = "";

    for (size_t i = 0; i < cli_command_count; i++) {
        const char *name = cli_commands[i].name, *space = strchr(name, ' ');
        size_t len = first ? strlen(first) : 0;

        if (!first) {
            len = space ? (size_t)(space - name) : strlen(name);
            if (strncmp(last, name, len) != 0 || (last[len] && last[len] != ' '))
                printf(" %.*s", (int)len, name);
            last = name;
        } else if (space && (size_t)(space - name) == len && strncmp(name, first, len) == 0) {
            printf(" %s", space + 1);
        }
    }
}

static void options_of(const struct cli_option *o)
{
    for (; o && o->name; o++)
        printf(" --%s", o->name);
}

static void groups(void)
{
    char last[32] = "";

    for (size_t i = 0; i < cli_command_count; i++) {
        const char *space = strchr(cli_commands[i].name, ' ');
        char first[32];

        if (!space)
            continue;
        snprintf(first, sizeof(first), "%.*s", (int)(space - cli_commands[i].name), cli_commands[i].name);
        if (str_eq(first, last))
            continue;
        printf("    \"%s\") words=\"", first);
        words_of(first);
        printf("\" ;;\n");
        snprintf(last, sizeof(last), "%s", first);
    }
}

/* What lists the words for a command's first argument. */
static const char *names_for(const char *args)
{
    if (strncmp(args, "CONTAINER", 9) == 0)
        return " $(nodectl -q list 2>/dev/null)";
    return strncmp(args, "PROJECT", 7) == 0 ? " $(nodectl -q project list 2>/dev/null)" : "";
}

struct err *cmd_completion(struct cli *cli)
{
    if (!str_eq(cli_arg(cli, 0), "bash"))
        return cli_usage("there is completion for bash only");
    printf("# bash completion for nodectl\n_nodectl() {\n    local cur=${COMP_WORDS[COMP_CWORD]} words\n"
           "    case \"${COMP_WORDS[*]:1:COMP_CWORD-1}\" in\n    \"\") words=\"");
    words_of(NULL);
    printf("\" ;;\n");
    groups();
    for (size_t i = 0; i < cli_command_count; i++) {
        const char *names = names_for(cli_commands[i].args);

        printf("    \"%s\"%s) words=\"", cli_commands[i].name, names[0] ? "" : "*");
        options_of(cli_commands[i].options);
        printf("%s\" ;;\n", names);
        if (names[0]) {
            printf("    \"%s \"*) words=\"", cli_commands[i].name);
            options_of(cli_commands[i].options);
            printf("\" ;;\n");
        }
    }
    printf("    esac\n    [[ $cur == -* ]] && words+=\"");
    options_of(cli_global_options);
    printf("\"\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n}\ncomplete -F _nodectl nodectl\n");
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The command line against the table of commands, and the help texts made from it. */
#include <stdarg.h>
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"

struct err *cli_usage(const char *fmt, ...)
{
    char *text = NULL;
    struct err *e;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    va_end(ap);
    e = err_reason(err_new(ERR_INVALID, "%s", text), "USAGE");
    free(text);
    return e;
}

bool cli_is_usage(const struct err *e)
{
    return str_eq(e->reason, "USAGE");
}

const char *cli_nth(const struct cli *cli, const char *name, size_t n)
{
    for (size_t i = 0; i < cli->given_count; i++)
        if (str_eq(cli->given[i].name, name) && n-- == 0)
            return cli->given[i].value;
    return NULL;
}

const char *cli_value(const struct cli *cli, const char *name)
{
    const char *last = NULL;

    for (size_t i = 0; i < cli->given_count; i++)
        if (str_eq(cli->given[i].name, name))
            last = cli->given[i].value;
    return last;
}

bool cli_has(const struct cli *cli, const char *name)
{
    return cli_value(cli, name) != NULL;
}

const char *cli_arg(const struct cli *cli, size_t n)
{
    return n < cli->count ? cli->args[n] : NULL;
}

static const struct cli_option *find_option(const struct cli_option *list, const char *name, size_t len)
{
    for (; list && list->name; list++)
        if (strlen(list->name) == len && strncmp(list->name, name, len) == 0)
            return list;
    return NULL;
}

static bool begins_with(const char *s, const char *word)
{
    size_t len = strlen(word);

    return strncmp(s, word, len) == 0 && (s[len] == ' ' || !s[len]);
}

/* The command of the first one or two words; *ret_words says how many. */
static const struct cli_command *find_command(const char *first, const char *second, int *ret_words)
{
    autofree char *both = str_fmt("%s %s", first, second ? second : "");

    for (size_t i = 0; i < cli_command_count; i++) {
        bool two = strchr(cli_commands[i].name, ' ') != NULL;

        if (str_eq(cli_commands[i].name, two ? both : first)) {
            *ret_words = two ? 2 : 1;
            return &cli_commands[i];
        }
    }
    return NULL;
}

static void print_options(const struct cli_option *o)
{
    for (; o && o->name; o++) {
        autofree char *left = str_fmt("--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");

        printf("  %-24s %s\n", left, o->help);
    }
}

static void print_group(const char *first)
{
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *c = &cli_commands[i];
        autofree char *left = str_fmt("%s %s", c->name, c->args);

        if (!first || begins_with(c->name, first))
            printf("  %-54s %s\n", left, c->help);
    }
}

void cli_help(const struct cli_command *command)
{
    if (!command) {
        printf("usage: nodectl [options] COMMAND [arguments]\n\nCommands:\n");
        print_group(NULL);
        printf("\nA CONTAINER is an id, the beginning of an id, or a name.\n");
    } else {
        printf("usage: nodectl %s %s\n\n%s.\n", command->name, command->args, command->help);
        if (command->options)
            printf("\nOptions:\n");
        print_options(command->options);
    }
    printf("\nOptions of every command:\n");
    print_options(cli_global_options);
}

struct parse {
    struct cli *cli;
    const char **args;
    struct cli_given *given;
    bool only_args, help;
};

static struct err *take_option(struct parse *p, const struct cli_command *command, char **argv, int argc, int *i)
{
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct cli_option *o = find_option(cli_global_options, name, len);
    const char *value = equals ? equals + 1 : NULL;

    if (!o && command)
        o = find_option(command->options, name, len);
    if (!o)
        return cli_usage("there is no option '%s'%s%s: see 'nodectl %s%s--help'", argv[*i], command ? " of " : "",
                         command ? command->name : "", command ? command->name : "", command ? " " : "");
    if (o->kind == CLI_FLAG && equals)
        return cli_usage("option '--%s' takes no value", o->name);
    if (o->kind != CLI_FLAG && !value) {
        if (*i + 1 >= argc)
            return cli_usage("option '--%s' needs a value: %s", o->name, o->value);
        value = argv[++*i];
    }
    p->given[p->cli->given_count++] = (struct cli_given){.name = o->name, .value = value ? value : ""};
    return NULL;
}

/* Options may stand anywhere; "--" ends them. The command is known from the first words that are not options. */
static struct err *scan(struct parse *p, const struct cli_command *command, int argc, char **argv)
{
    struct err *e = NULL;

    for (int i = 1; !e && i < argc; i++) {
        if (p->only_args || argv[i][0] != '-' || !argv[i][1])
            p->args[p->cli->count++] = argv[i];
        else if (str_eq(argv[i], "--"))
            p->only_args = true;
        else if (str_eq(argv[i], "-h") || str_eq(argv[i], "--help"))
            p->help = true;
        else if (str_eq(argv[i], "-q"))
            p->given[p->cli->given_count++] = (struct cli_given){.name = "quiet", .value = ""};
        else if (strncmp(argv[i], "--", 2) == 0)
            e = take_option(p, command, argv, argc, &i);
        else
            e = cli_usage("there is no option '%s': see 'nodectl --help'", argv[i]);
    }
    return e;
}

/* The first two words that are neither options nor values of the global options. */
static void first_words(int argc, char **argv, const char *ret[2])
{
    int n = 0;

    for (int i = 1; i < argc && n < 2; i++) {
        if (argv[i][0] == '-') {
            const struct cli_option *o =
                find_option(cli_global_options, argv[i] + 2, strlen(argv[i]) > 2 ? strlen(argv[i] + 2) : 0);

            if (o && o->kind != CLI_FLAG)
                i++;
            if (n == 1)
                break; /* the second word of a command follows the first at once */
            continue;
        }
        ret[n++] = argv[i];
    }
}

static struct err *unknown(const char *first)
{
    for (size_t i = 0; i < cli_command_count; i++)
        if (begins_with(cli_commands[i].name, first)) {
            printf("Commands of 'nodectl %s':\n", first);
            print_group(first);
            return cli_usage("'nodectl %s' needs a second word", first);
        }
    return cli_usage("there is no command '%s': see 'nodectl --help'", first);
}

struct err *cli_parse(int argc, char **argv, struct cli *cli, bool *ret_done)
{
    struct parse p = {.cli = cli,
                      .args = mem_new_array(const char *, (size_t)argc + 1),
                      .given = mem_new_array(struct cli_given, (size_t)argc + 1)};
    const char *words[2] = {NULL, NULL};
    int used = 0;
    struct err *e;

    cli->args = p.args;
    cli->given = p.given;
    first_words(argc, argv, words);
    cli->command = words[0] ? find_command(words[0], words[1], &used) : NULL;
    e = scan(&p, cli->command, argc, argv);
    cli->json = cli_has(cli, "json");
    cli->quiet = cli_has(cli, "quiet");
    if (cli_has(cli, "version")) {
        printf("nodectl %s\n", NODED_VERSION);
        *ret_done = true;
        return e;
    }
    if (p.help || (!words[0] && !e)) {
        cli_help(cli->command);
        *ret_done = true;
        if (p.help) {
            err_free(e);
            return NULL;
        }
        return cli_usage("a command is needed");
    }
    if (!cli->command)
        return err_first(words[0] ? unknown(words[0]) : e, words[0] ? e : NULL);
    if (e)
        return e;
    for (size_t i = (size_t)used; i < cli->count; i++)
        p.args[i - (size_t)used] = p.args[i];
    cli->count -= (size_t)used;
    if ((int)cli->count < cli->command->min || (cli->command->max >= 0 && (int)cli->count > cli->command->max))
        return cli_usage("usage: nodectl %s %s", cli->command->name, cli->command->args);
    return NULL;
}

void cli_done(struct cli *cli)
{
    free((void *)(uintptr_t)cli->args);
    free((void *)(uintptr_t)cli->given);
    client_close(cli->client);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* noded: command line, signals, watchdog. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "agent/api/api.h"
#include "agent/http/listen.h"
#include "agent/http/tls.h"
#include "agent/start.h"
#include "agent/tls_watch.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/str.h"
#include "netfilter/netfilter.h"

struct daemon {
    uv_loop_t loop;
    struct agent *agent;
    char *config_path;
    uv_signal_t signals[3];
    uv_timer_t watchdog;
    int status;
    bool stopping;
    bool again; /* start anew when everything has stopped */
};

static const char usage[] = "noded - the node agent: containers on this server\n"
                            "\n"
                            "Usage: noded [options]\n"
                            "  -c, --config FILE    configuration (default " CONFIG_DEFAULT_PATH ")\n"
                            "  -d, --debug          log everything to stderr\n"
                            "      --check          check the configuration and exit\n"
                            "      --example        print a commented configuration with all defaults and exit\n"
                            "      --routes         print the methods and paths of the API and exit\n"
                            "  -V, --version        print the version and exit\n"
                            "  -h, --help           print this and exit\n"
                            "\n"
                            "See noded(8), noded.conf(5) and nodectl(1).\n";

static void on_closed(void *owner)
{
    struct daemon *d = owner;

    for (size_t i = 0; i < ARRAY_LEN(d->signals); i++)
        uv_close((uv_handle_t *)&d->signals[i], NULL);
    uv_close((uv_handle_t *)&d->watchdog, NULL);
}

static void stop(struct daemon *d)
{
    if (d->stopping)
        return;
    d->stopping = true;
    d->again = d->agent->again;
    sd_notify(0, d->again ? "STATUS=starting anew" : "STOPPING=1\nSTATUS=finishing operations");
    log_notice(NULL, d->again ? "starting anew; containers go on" : "stopping; containers go on");
    agent_stop(d->agent, d, on_closed);
}

static void reload(struct daemon *d)
{
    struct config *fresh = NULL;
    struct err *e;

    if (!d->agent->tls)
        return;
    e = config_load(d->config_path, &fresh);
    if (!e)
        e = tls_listener_reload(d->agent->tls, fresh);
    config_free(fresh);
    if (e)
        log_err(NULL, LOG_LEVEL_ERR, e, "reload failed; the old certificates stay in use");
    else
        log_notice(NULL, "certificates reloaded");
    if (d->agent->tls_watch)
        tls_watch_look(d->agent->tls_watch);
}

static void on_signal(uv_signal_t *handle, int number)
{
    if (number == SIGHUP)
        reload(handle->data);
    else
        stop(handle->data);
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer;
    sd_notify(0, "WATCHDOG=1");
}

static void on_started(void *owner, struct err *e)
{
    struct daemon *d = owner;

    if (e) {
        log_err(NULL, LOG_LEVEL_ERR, e, "cannot start");
        sd_notify(0, "STATUS=failed to start");
        d->status = 1;
        fflush(NULL);
        _exit(1); /* nothing that was begun needs undoing */
    }
    if (d->agent->held) {
        sd_notifyf(0, "READY=1\nSTATUS=held: run \"nodectl recover\"");
        return;
    }
    log_notice(NULL, "noded %s serves %zu containers", NODED_VERSION, agent_shown_count(d->agent));
    sd_notifyf(0, "READY=1\nSTATUS=serving");
}

static void set_up(struct daemon *d)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    uint64_t interval_us = 0;

    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        uv_signal_init(&d->loop, &d->signals[i]);
        d->signals[i].data = d;
        uv_signal_start(&d->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&d->loop, &d->watchdog);
    if (sd_watchdog_enabled(0, &interval_us) > 0)
        uv_timer_start(&d->watchdog, on_watchdog, 0, interval_us / 2000);
}

/* The same process with a fresh memory: systemd goes on knowing it, and what it has passed is kept. */
static int start_anew(char **argv)
{
    listen_keep_passed();
    execv("/proc/self/exe", argv);
    log_error(NULL, "cannot start anew: %m");
    return 1;
}

static int run(struct config *config, char *config_path, char **argv)
{
    struct daemon d = {.config_path = config_path};

    if (uv_loop_init(&d.loop) != 0)
        return 1;
    set_up(&d);
    d.agent = agent_start(&d.loop, config, api_handle, &d, on_started);
    uv_run(&d.loop, UV_RUN_DEFAULT);
    agent_free(d.agent);
    uv_loop_close(&d.loop);
    if (d.again)
        return start_anew(argv);
    log_notice(NULL, "stopped");
    return d.status;
}

static enum log_level level_of(const char *word)
{
    static const char *const words[] = {"error", "warning", "notice", "info", "debug"};

    for (int i = 0; i < (int)ARRAY_LEN(words); i++)
        if (str_eq(words[i], word))
            return (enum log_level)(LOG_LEVEL_ERR + i);
    return LOG_LEVEL_INFO;
}

/* The rest of --check: what the configuration names for mTLS, and what the host has. */
static int check_files(struct config *config)
{
    autofree char *warning = NULL;
    const char *ipv6_off = nf_ipv6_off();
    autoerr e = config->tls_listen || config->tls_crl ? tls_files_check(config, &warning) : NULL;

    config_free(config);
    if (e)
        fprintf(stderr, "noded: %s\n", err_message(e));
    else if (warning)
        fprintf(stderr, "noded: warning: %s\n", warning);
    if (!e && ipv6_off)
        printf("IPv6 is disabled on this host, containers get IPv4 only: %s.\n", ipv6_off);
    return e ? 1 : puts("The configuration is valid.") < 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"debug", no_argument, NULL, 'd'},
        {"check", no_argument, NULL, 'k'},        {"example", no_argument, NULL, 'e'},
        {"routes", no_argument, NULL, 'r'},       {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},         {0}};
    char *path = (char *)(uintptr_t)CONFIG_DEFAULT_PATH;
    bool debug = false, check = false;
    struct config *config = NULL;
    struct err *e;
    int option;

    while ((option = getopt_long(argc, argv, "c:dVh", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            path = optarg;
            break;
        case 'd':
            debug = true;
            break;
        case 'k':
            check = true;
            break;
        case 'e': {
            autofree char *text = config_example();

            return fputs(text, stdout) < 0;
        }
        case 'r':
            return !api_print_routes();
        case 'V':
            return puts("noded " NODED_VERSION) < 0;
        case 'h':
            return fputs(usage, stdout) < 0;
        default:
            fputs("Try 'noded --help'.\n", stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "noded: unexpected argument '%s'\nTry 'noded --help'.\n", argv[optind]);
        return 2;
    }
    e = config_load(path, &config);
    if (e) {
        fprintf(stderr, "noded: %s\n", err_message(e));
        err_free(e);
        return 1;
    }
    log_open("noded", debug ? LOG_LEVEL_DEBUG : level_of(config->log_level), debug);
    if (check)
        return check_files(config);
    failpoint_init();
    umask(077);
    return run(config, path, argv);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The child is nobody, with the host's network and file system and no right to write anywhere but to the file that it
 * was given. http or https, as the server's URL says; a redirection never leaves https. A transfer that breaks off is
 * gone on with from where it was.
 */
#include "images/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json_table.h"
#include "base/str.h"
#include "images/image.h"
#include "provisioning/sandbox.h"

#define CATALOGUE_MAX (32u << 20)
#define BLOCK 262144
enum { TRIES = 5, REDIRECTIONS = 4, CATALOGUES_MAX = 4 };

struct getting {
    const struct fetch *f;
    const char *name;                /* of an image, or NULL */
    const struct streams_file *file; /* or NULL */
    int fd;
    CURL *curl;
    char *text; /* of a catalogue */
    size_t len;
    EVP_MD_CTX *digest;
    int64_t done;
    bool asked_for_rest; /* of this transfer; until its first bytes */
    struct err *error;
};

static size_t on_text(char *data, size_t size, size_t count, void *owner)
{
    struct getting *g = owner;
    size_t n = size * count;

    if (n > CATALOGUE_MAX - g->len) {
        g->error = err_new(ERR_TOO_LARGE, "a catalogue has more than %u bytes", CATALOGUE_MAX);
        return 0;
    }
    g->text = mem_grow(g->text, g->len + n + 1, 1);
    memcpy(g->text + g->len, data, n);
    g->len += n;
    return n;
}

static void start_over(struct getting *g)
{
    g->done = 0;
    if (EVP_DigestInit_ex(g->digest, EVP_sha256(), NULL) != 1 || ftruncate(g->fd, 0) < 0 ||
        lseek(g->fd, 0, SEEK_SET) < 0)
        g->error = err_new(ERR_HOST, "cannot begin the file again");
}

static size_t on_bytes(char *data, size_t size, size_t count, void *owner)
{
    struct getting *g = owner;
    size_t n = size * count;
    long status = 0;

    curl_easy_getinfo(g->curl, CURLINFO_RESPONSE_CODE, &status);
    if (g->asked_for_rest && status == 200) /* it sends all of it */
        start_over(g);
    g->asked_for_rest = false;
    if (!g->error && (int64_t)n > g->file->size - g->done)
        g->error = err_new(ERR_TOO_LARGE, "'%s' has more than the %lld bytes that were announced", g->file->path,
                           (long long)g->file->size);
    if (!g->error && EVP_DigestUpdate(g->digest, data, n) != 1)
        g->error = err_new(ERR_INTERNAL, "sha256");
    if (!g->error)
        g->error = err_wrap(fd_write_all(g->fd, data, n), "cannot keep '%s'", g->file->path);
    if (g->error)
        return 0;
    g->done += (int64_t)n;
    return n;
}

static struct err *setup(struct getting *g)
{
    bool https = strncmp(g->f->url, "https://", 8) == 0;

    if (!https && strncmp(g->f->url, "http://", 7) != 0)
        return err_new(ERR_INVALID, "'%s' is no http or https URL", g->f->url);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) || !(g->curl = curl_easy_init()))
        return err_new(ERR_INTERNAL, "libcurl does not start");
    curl_easy_setopt(g->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(g->curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(g->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(g->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(g->curl, CURLOPT_LOW_SPEED_TIME, 30L);
    curl_easy_setopt(g->curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(g->curl, CURLOPT_MAXREDIRS, (long)REDIRECTIONS);
    curl_easy_setopt(g->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(g->curl, CURLOPT_REDIR_PROTOCOLS_STR, https ? "https" : "http,https");
    curl_easy_setopt(g->curl, CURLOPT_USERAGENT, "noded/" NODED_VERSION);
    curl_easy_setopt(g->curl, CURLOPT_WRITEDATA, g);
    if (g->f->ca)
        curl_easy_setopt(g->curl, CURLOPT_CAINFO, g->f->ca);
    return NULL;
}

/* *ret_again: it broke off, and may go on. */
static struct err *perform(struct getting *g, const char *path, bool *ret_again)
{
    autofree char *url = str_fmt("%s/%s", g->f->url, path);
    char details[CURL_ERROR_SIZE] = "", range[32];
    long status = 0;
    CURLcode code;

    curl_easy_setopt(g->curl, CURLOPT_URL, url);
    curl_easy_setopt(g->curl, CURLOPT_ERRORBUFFER, details);
    g->asked_for_rest = g->done > 0;
    snprintf(range, sizeof(range), "%lld-", (long long)g->done);
    curl_easy_setopt(g->curl, CURLOPT_RANGE, g->asked_for_rest ? range : NULL);
    code = curl_easy_perform(g->curl);
    curl_easy_setopt(g->curl, CURLOPT_ERRORBUFFER, NULL);
    if (code == CURLE_OK)
        return NULL;
    if (g->error)
        return steal(&g->error);
    curl_easy_getinfo(g->curl, CURLINFO_RESPONSE_CODE, &status);
    *ret_again =
        code != CURLE_HTTP_RETURNED_ERROR && code != CURLE_TOO_MANY_REDIRECTS && code != CURLE_PEER_FAILED_VERIFICATION;
    return err_new(status == 404 ? ERR_NOT_FOUND : ERR_UNAVAILABLE, "'%s': %s", url,
                   *details ? details : curl_easy_strerror(code));
}

static struct err *get_json(struct getting *g, const char *path, json_t **ret)
{
    bool again = false;
    struct err *e;

    g->len = 0;
    curl_easy_setopt(g->curl, CURLOPT_WRITEFUNCTION, on_text);
    e = perform(g, path, &again);
    if (!e)
        e = json_parse(g->text ? g->text : "", g->len, path, ret);
    return e;
}

static json_t *image_json(const struct streams_image *i)
{
    json_t *files = json_array();

    for (size_t k = 0; k < i->count; k++)
        json_array_append_new(files, json_pack("{s:s, s:s, s:I}", "path", i->files[k].path, "sha256",
                                               i->files[k].sha256, "size", (json_int_t)i->files[k].size));
    return json_pack("{s:o, s:s, s:s}", "files", files, "fingerprint", i->fingerprint, "serial", i->serial);
}

static struct err *find(struct getting *g, json_t **ret)
{
    autojson index = NULL;
    autojson paths = NULL;
    struct err *e = get_json(g, "streams/v1/index.json", &index);
    json_t *path;
    size_t i;

    if (!e)
        e = streams_catalogues(index, &paths);
    if (e)
        return e;
    json_array_foreach(paths, i, path)
    {
        struct streams_image image = {0};
        autojson catalogue = NULL;

        err_free(e);
        e = i < CATALOGUES_MAX ? get_json(g, json_string_value(path), &catalogue)
                               : err_new(ERR_INVALID, "the index has too many catalogues");
        if (!e)
            e = streams_find(catalogue, g->name, &image);
        if (!e)
            *ret = image_json(&image);
        streams_image_clear(&image);
        if (!e || e->code != ERR_NOT_FOUND)
            return e;
    }
    return e;
}

static struct err *read_what_is_there(struct getting *g)
{
    autofree char *block = mem_alloc(1, BLOCK);
    ssize_t n;

    while ((n = read(g->fd, block, BLOCK)) > 0) {
        g->done += n;
        if (EVP_DigestUpdate(g->digest, block, (size_t)n) != 1)
            return err_new(ERR_INTERNAL, "sha256");
    }
    if (g->done > g->file->size)
        start_over(g);
    return n < 0 ? err_errno(errno, "the part of '%s'", g->file->path) : steal(&g->error);
}

static struct err *check_digest(struct getting *g)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE + 1] = "";
    unsigned len = 0;

    if (g->done != g->file->size)
        return err_new(ERR_INVALID, "'%s' has %lld bytes and not %lld", g->file->path, (long long)g->done,
                       (long long)g->file->size);
    if (EVP_DigestFinal_ex(g->digest, bytes, &len) != 1)
        return err_new(ERR_INTERNAL, "sha256");
    str_hex(bytes, len, text);
    if (str_eq(text, g->file->sha256))
        return NULL;
    return err_reason(err_new(ERR_INVALID, "the digest of '%s' is %s and not %s", g->file->path, text, g->file->sha256),
                      "IMAGE_DIGEST_WRONG");
}

static struct err *download(struct getting *g)
{
    struct err *e = read_what_is_there(g);

    curl_easy_setopt(g->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    for (int i = 0; !e && g->done < g->file->size && i < TRIES; i++) {
        bool again = false;

        e = perform(g, g->file->path, &again);
        if (e && again && i + 1 < TRIES) {
            err_free(e);
            e = NULL;
            (void)usleep(200000u << i);
        }
    }
    if (!e)
        e = check_digest(g);
    if (e && (e->code == ERR_INVALID || e->code == ERR_TOO_LARGE))
        start_over(g); /* there is nothing to go on from */
    return e;
}

static struct err *in_child(void *arg, json_t **ret)
{
    struct getting *g = arg;
    struct err *e = setup(g);

    g->digest = EVP_MD_CTX_new();
    if (!e && (!g->digest || EVP_DigestInit_ex(g->digest, EVP_sha256(), NULL) != 1))
        e = err_new(ERR_INTERNAL, "sha256");
    if (e)
        return e;
    return g->name ? find(g, ret) : download(g);
}

static struct err *run(struct getting *g, json_t **ret)
{
    autofd int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct sandbox s = {.root = root,
                              .network = true,
                              .nobody = true,
                              .fds = &g->fd,
                              .fd_count = 1,
                              .owner = g->f->owner,
                              .tick = g->f->tick};

    return root < 0 ? err_errno(errno, "/") : sandbox_run(&s, in_child, g, ret);
}

/* The child is a stranger by now: what it says is checked as the server's own words were. */
static struct err *take_found(const json_t *found, struct streams_image *ret)
{
    const json_t *files = json_object_get(found, "files");
    const char *fingerprint = json_string_value(json_object_get(found, "fingerprint"));
    const char *serial = json_string_value(json_object_get(found, "serial"));

    ret->count = json_array_size(files);
    if (ret->count < 1 || ret->count > STREAMS_FILES || !fingerprint || !serial ||
        (*fingerprint && !image_fingerprint_ok(fingerprint)))
        return err_new(ERR_INVALID, "what the server says makes no sense");
    snprintf(ret->fingerprint, sizeof(ret->fingerprint), "%s", fingerprint);
    ret->serial = str_dup(serial);
    for (size_t i = 0; i < ret->count; i++) {
        const json_t *file = json_array_get(files, i);
        const char *path = json_string_value(json_object_get(file, "path"));
        const char *sha256 = json_string_value(json_object_get(file, "sha256"));

        ret->files[i].size = json_integer_value(json_object_get(file, "size"));
        if (!path || !image_fingerprint_ok(sha256) || ret->files[i].size <= 0 || ret->files[i].size > IMAGE_ARCHIVE_MAX)
            return err_new(ERR_INVALID, "what the server says makes no sense");
        ret->files[i].path = str_dup(path);
        memcpy(ret->files[i].sha256, sha256, sizeof(ret->files[i].sha256));
    }
    return NULL;
}

struct err *fetch_find(const struct fetch *f, const char *name, struct streams_image *ret)
{
    struct getting g = {.f = f, .name = name, .fd = -1};
    autojson found = NULL;
    struct err *e = run(&g, &found);

    if (!e)
        e = take_found(found, ret);
    if (e)
        streams_image_clear(ret);
    return e;
}

struct err *fetch_file(const struct fetch *f, const struct streams_file *file, int fd)
{
    struct getting g = {.f = f, .file = file, .fd = fd};
    autojson nothing = NULL;

    return run(&g, &nothing);
}

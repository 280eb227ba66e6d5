/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/batch.h"

#include <errno.h>
#include <libnftnl/common.h>
#include <limits.h>

#include "base/str.h"

#define SEND_BUFFER_MIN (1 << 20)
#define LABELS_STEP 256

void batch_init(struct batch *b, struct nl *nl)
{
    *b = (struct batch){.nl = nl, .first_seq = nl->seq + 1};
}

void batch_clear(struct batch *b)
{
    free(b->data);
    free(b->labels);
    *b = (struct batch){0};
}

static char *room(struct batch *b, size_t need)
{
    if (b->size - b->len < need) {
        b->size = MAX(b->size * 2, b->len + need);
        b->data = mem_grow(b->data, b->size, 1);
    }
    return b->data + b->len;
}

static void add_frame(struct batch *b, bool begin)
{
    char *at = room(b, BATCH_MESSAGE_MAX);

    if (begin)
        b->len += nftnl_batch_begin(at, ++b->nl->seq)->nlmsg_len;
    else
        b->len += nftnl_batch_end(at, ++b->nl->seq)->nlmsg_len;
}

struct nlmsghdr *batch_begin(struct batch *b, uint16_t type, uint16_t flags, const char *what)
{
    if (!b->len)
        add_frame(b, true);
    if (b->count % LABELS_STEP == 0)
        b->labels = mem_grow(b->labels, b->count + LABELS_STEP, sizeof(*b->labels));
    b->last = b->len;
    b->labels[b->count++] = (struct batch_label){.what = what, .of = b->of};
    return nftnl_nlmsg_build_hdr(room(b, BATCH_MESSAGE_MAX), type, NFPROTO_INET, flags, ++b->nl->seq);
}

void batch_end(struct batch *b, const struct nlmsghdr *message)
{
    b->len += nl_align(message->nlmsg_len);
}

/* One message may not be larger than the socket's send buffer. The kernel doubles the number it is given. */
static void grow_buffers(struct batch *b)
{
    int fd = mnl_socket_get_fd(b->nl->socket);
    int send = (int)MIN(MAX(b->len, (size_t)SEND_BUFFER_MIN), (size_t)1 << 30), receive = 4 << 20;

    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send, sizeof(send)) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send, sizeof(send));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive, sizeof(receive)) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, sizeof(receive));
}

static struct err *explain(const struct batch *b, const struct nlmsghdr *h, int errnum)
{
    uint32_t index = h->nlmsg_seq - b->first_seq - 1; /* first_seq is the frame's */
    struct batch_label label = {.what = "the transaction"};
    struct err *e;

    if (index < b->count)
        label = b->labels[index];
    if (label.of.rule) {
        const char *direction = rule_direction_name(label.of.direction);
        autofree char *place = str_fmt("%s[%zu]", direction, label.of.rule - 1);

        e = err_at(err_errno(errnum, "%s rule %zu: nftables refuses it", direction, label.of.rule - 1), place);
    } else {
        e = err_errno(errnum, "nftables refuses %s", label.what);
    }
    if (label.of.slot)
        e = err_data(err_wrap(e, "slot %d", label.of.slot), json_pack("{s:i}", "slot", label.of.slot));
    return errnum == ENOENT ? err_recode(e, ERR_NOT_FOUND) : e;
}

/* Reads what the kernel has answered; the first error wins. *ret_acked: the last message was accepted. */
static struct err *read_answers(struct batch *b, uint32_t last_seq, bool *ret_acked)
{
    autofree char *answer = mem_alloc(1, 65536);
    struct err *first = NULL;
    ssize_t n;

    while ((n = recv(mnl_socket_get_fd(b->nl->socket), answer, 65536, MSG_DONTWAIT)) != 0) {
        struct nlmsghdr *h = (struct nlmsghdr *)answer;
        int left = (int)n;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            return err_first(first, err_errno(errno, "cannot read the answer of nftables"));
        for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
            const struct nlmsgerr *answer_code = mnl_nlmsg_get_payload(h);

            if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_len < NLMSG_LENGTH(sizeof(int)) ||
                (int32_t)(h->nlmsg_seq - b->first_seq) < 0)
                continue; /* an answer to an older batch */
            if (answer_code->error && !first)
                first = explain(b, h, answer_code->error == INT_MIN ? EIO : -answer_code->error);
            if (!answer_code->error && h->nlmsg_seq == last_seq)
                *ret_acked = true;
        }
    }
    return first;
}

struct err *batch_send(struct batch *b)
{
    uint32_t last_seq = b->nl->seq;
    struct nlmsghdr *last = (struct nlmsghdr *)(b->data + b->last);
    bool acked = false;
    struct err *e;

    if (!b->count)
        return NULL;
    last->nlmsg_flags |= NLM_F_ACK; /* only this one: one that fails answers anyway */
    add_frame(b, false);
    grow_buffers(b);
    if (mnl_socket_sendto(b->nl->socket, b->data, b->len) < 0)
        return err_errno(errno, "cannot send %zu bytes to nftables", b->len);
    e = read_answers(b, last_seq, &acked);
    if (!e && !acked)
        e = err_new(ERR_HOST, "nftables did not confirm a transaction of %u messages", b->count);
    return e;
}

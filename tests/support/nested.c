/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only program of an image for containers inside containers (tests/support/nesting.py); static.
 * usage: nested            says hello
 *        nested wait       stays until it is told to go
 *        nested serve      answers every connection to port 80
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int signo)
{
    (void)signo;
    _exit(0);
}

static void say(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0)
        _exit(1);
}

static int serve(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), client;

    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 8) < 0)
        return 1;
    while ((client = accept(listener, NULL, NULL)) >= 0) {
        char request[1024];

        if (read(client, request, sizeof(request)) > 0)
            say(client, "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nnested\n");
        close(client);
    }
    return 1;
}

int main(int argc, char **argv)
{
    signal(SIGTERM, end); /* process 1 of a namespace has no default actions */
    if (argc > 1 && strcmp(argv[1], "serve") == 0)
        return serve();
    while (argc > 1 && strcmp(argv[1], "wait") == 0)
        pause();
    say(STDOUT_FILENO, "hello from inside\n");
    return 0;
}

/* Runs a command whose standard input and output are one socket, as inetd and systemd do:
 * onsocket TEXT CMD ARG... Sends TEXT at once and prints what the command does. Exits as the
 * command did, 128 + n for a signal, and 99 when the command left the socket, whose open file is
 * shared with us, in non-blocking mode.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, EXIT_LEFT = 99 };

int main(int argc, char **argv)
{
    int pair[2], status;
    char buf[4096];
    ssize_t n;

    if (argc < 3 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return EXIT_USAGE;
    pid_t child = fork();

    if (child == 0) {
        dup2(pair[1], STDIN_FILENO);
        dup2(pair[1], STDOUT_FILENO);
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    n = (ssize_t)strlen(argv[1]);
    if (child < 0 || write(pair[0], argv[1], (size_t)n) != n || waitpid(child, &status, 0) < 0)
        return EXIT_USAGE;
    /* Not closed before: its flags are what we look at. */
    int flags = fcntl(pair[1], F_GETFL);

    close(pair[1]);
    while ((n = read(pair[0], buf, sizeof buf)) > 0)
        if (write(STDOUT_FILENO, buf, (size_t)n) != n)
            return EXIT_USAGE;
    if (flags < 0 || flags & O_NONBLOCK)
        return EXIT_LEFT;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

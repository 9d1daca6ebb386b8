/* The bench's init: marks that it runs (mark.h), says so on the console, and asks the kernel for a
 * reboot, which a monitor takes for the end. Words on the command line that the kernel doesn't know
 * are our arguments: with `wait` it sleeps instead, with `off` it powers off. */
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "bench/mark.h"

int main(int argc, char **argv)
{
    static const char text[] = "init\n";

    mark(MARK_INIT);
    /* Without a console, as on `floor`, there is nowhere to write to, and that is all right. */
    (void)!write(STDOUT_FILENO, text, sizeof text - 1);
    for (int i = 1; i < argc; i++) {
        while (strcmp(argv[i], "wait") == 0)
            pause();
        if (strcmp(argv[i], "off") == 0)
            reboot(RB_POWER_OFF);
    }
    reboot(RB_AUTOBOOT);
    return 1; /* not reached */
}

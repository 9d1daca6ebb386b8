/* A thread of another process, found by its name. */
#ifndef GUEST_HOST_THREAD_H
#define GUEST_HOST_THREAD_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* The id of the thread of pid that is called name, or -1. */
static inline pid_t find_thread(pid_t pid, const char *name, size_t len)
{
    char path[300], comm[32];
    pid_t tid = -1;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *d = opendir(path);

    for (struct dirent *e; d && tid < 0 && (e = readdir(d));) {
        if (*e->d_name == '.')
            continue; /* ".." has a comm too */
        snprintf(path, sizeof path, "/proc/%d/task/%s/comm", pid, e->d_name);
        FILE *f = fopen(path, "re");

        if (f && fgets(comm, sizeof comm, f) && strcspn(comm, "\n") == len &&
            memcmp(comm, name, len) == 0)
            tid = (pid_t)strtol(e->d_name, NULL, 10);
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return tid;
}

#endif

/* A libnvidia-ml.so.1 that answers from files, for machines without an NVIDIA driver.
 *
 * It has the functions that the server calls, with the signatures and return codes of NVIDIA's documentation.
 * Beside the library lies gpus/, with a directory for each device, named by its ordinal:
 *   info    lines: UUID, name, bytes of memory, bytes taken by nobody who is listed, percent busy
 *   held/   a file for each process that computes there, named by its id, with the bytes that it holds; one
 *           whose process is gone counts for nothing
 * and, when a test wants them, `init` with what nvmlInit gives, and the empty files `hang` (no call returns while it is there) and `quiet`
 * (processes are not told, as in a container).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, UNKNOWN = 999 };

typedef struct {
    unsigned int version;
    unsigned long long total, reserved, free, used;
} Memory;

typedef struct {
    unsigned int gpu, memory;
} Utilization;

typedef struct {
    unsigned int pid;
    unsigned long long bytes;
    unsigned int gpu_instance, compute_instance;
} Process;

typedef struct {
    char uuid[96], name[96];
    unsigned long long total, lost;
    unsigned int busy;
} Info;

static void path(char *out, size_t size, const char *rest) {
    Dl_info self;
    char library[4096];
    dladdr((void *)path, &self);
    snprintf(library, sizeof library, "%s", self.dli_fname);
    snprintf(out, size, "%s/%s", dirname(library), rest);
}

static int exists(const char *rest) {
    char name[4400];
    path(name, sizeof name, rest);
    return access(name, F_OK) == 0;
}

static void hang(void) {
    struct timespec moment = {0, 5000000};
    while (exists("hang"))
        nanosleep(&moment, NULL);
}

static int info(void *device, Info *out) {
    char rest[64], name[4400];
    hang();
    snprintf(rest, sizeof rest, "gpus/%ld/info", (long)device - 1);
    path(name, sizeof name, rest);
    FILE *file = fopen(name, "r");
    if (!file)
        return INVALID_ARGUMENT;
    int read = fscanf(file, " %95[^\n] %95[^\n] %llu %llu %u", out->uuid, out->name, &out->total, &out->lost, &out->busy);
    fclose(file);
    return read == 5 ? SUCCESS : UNKNOWN;
}

/* Processes of a device, at most `size` of them into `out`; gives how many there are. */
static unsigned int processes(void *device, Process *out, unsigned int size) {
    char rest[64], directory[4400];
    unsigned int count = 0;
    snprintf(rest, sizeof rest, "gpus/%ld/held", (long)device - 1);
    path(directory, sizeof directory, rest);
    DIR *held = opendir(directory);
    if (!held)
        return 0;
    for (struct dirent *entry; (entry = readdir(held));) {
        char name[4700];
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        unsigned long long bytes;
        if (*end || pid <= 0 || (kill((pid_t)pid, 0) != 0 && errno == ESRCH))
            continue;
        snprintf(name, sizeof name, "%s/%ld", directory, pid);
        FILE *file = fopen(name, "r");
        if (!file)
            continue;
        int read = fscanf(file, "%llu", &bytes);
        fclose(file);
        if (read != 1)
            continue;
        if (count < size)
            out[count] = (Process){(unsigned int)pid, bytes, 0, 0};
        count++;
    }
    closedir(held);
    return count;
}

int nvmlInit_v2(void) {
    char name[4400];
    int result = SUCCESS;
    hang();
    path(name, sizeof name, "init");
    FILE *file = fopen(name, "r");
    if (file) {
        if (fscanf(file, "%d", &result) != 1)
            result = UNKNOWN;
        fclose(file);
    }
    return result;
}

int nvmlShutdown(void) { return SUCCESS; }

int nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    hang();
    snprintf(version, length, "580.65.06");
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    hang();
    *version = 13000;
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    char rest[64];
    hang();
    for (*count = 0;; ++*count) {
        snprintf(rest, sizeof rest, "gpus/%u", *count);
        if (!exists(rest))
            return SUCCESS;
    }
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    char rest[64];
    hang();
    snprintf(rest, sizeof rest, "gpus/%u", index);
    *device = (void *)((long)index + 1);
    return exists(rest) ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length) {
    Info it;
    int result = info(device, &it);
    if (result == SUCCESS)
        snprintf(uuid, length, "%s", it.uuid);
    return result;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
    Info it;
    int result = info(device, &it);
    if (result == SUCCESS)
        snprintf(name, length, "%s", it.name);
    return result;
}

int nvmlDeviceGetUtilizationRates(void *device, Utilization *rates) {
    Info it;
    int result = info(device, &it);
    if (result == SUCCESS)
        *rates = (Utilization){it.busy, 0};
    return result;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, Memory *memory) {
    Info it;
    Process all[256];
    int result = info(device, &it);
    if (result != SUCCESS)
        return result;
    unsigned int count = processes(device, all, 256);
    unsigned long long used = it.lost;
    for (unsigned int i = 0; i < count && i < 256; i++)
        used += all[i].bytes;
    memory->total = it.total;
    memory->reserved = 0;
    memory->used = used < it.total ? used : it.total;
    memory->free = it.total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, Process *out) {
    hang();
    if (exists("quiet"))
        return NOT_SUPPORTED;
    unsigned int size = *count;
    *count = processes(device, out, out ? size : 0);
    return *count > (out ? size : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}

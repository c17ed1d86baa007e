/* device.h - declares a device's memory: how it is taken and released, written from the host and
   read back. Only operations and these calls touch it, so the same code serves a device whose
   memory the host cannot see. On devices whose memory is the host's, mapping and mirroring cost
   nothing. */
#ifndef FCT_COMPUTE_DEVICE_H
#define FCT_COMPUTE_DEVICE_H

#include "base/base.h"
#include "tensor/tensor.h"

typedef struct fct_device {
    const char *name;
    bool is_host; /* the host may touch its memory; write and read are then plain copies */
    fct_status (*take)(void *out_ptr, int64_t bytes); /* 64-byte aligned, not zeroed */
    void (*release)(void *p);                         /* NULL is fine */
    fct_status (*write)(void *to, const void *from, int64_t bytes); /* host to device */
    fct_status (*read)(void *to, const void *from, int64_t bytes);  /* device to host */
} fct_device;
extern const fct_device fct_device_host;

/* n * size is checked; out_ptr: address of any pointer, NULL on failure. */
fct_status fct_device_take(const fct_device *d, void *out_ptr, int64_t n,
                           int64_t size) FCT_MUST_CHECK;
void fct_device_release(const fct_device *d, void *p);

/* An arena of the device's memory; its size in bytes is at least 1 (an arena without memory is
   dry). */
fct_status fct_device_arena_init(const fct_device *d, fct_arena *a, int64_t bytes) FCT_MUST_CHECK;
void fct_device_arena_clear(const fct_device *d, fct_arena *a);

/* ---- what the host looks at or fills ---- */

typedef enum fct_map_mode { FCT_MAP_READ, FCT_MAP_WRITE, FCT_MAP_BOTH } fct_map_mode;

/* A tensor's memory while the host may touch it. */
typedef struct fct_map {
    void *data;
    /* private */
    const fct_device *device;
    fct_tensor t;
    fct_map_mode mode;
} fct_map;
/* WRITE: what is there is not read, and all of it is to be written. A tensor without data (a dry
   run) gives data NULL. Every map is followed by fct_map_close, which writes the host's changes
   back. */
fct_status fct_map_open(fct_map *out, const fct_device *d, const fct_tensor *t,
                        fct_map_mode mode) FCT_MUST_CHECK;
fct_status fct_map_close(fct_map *m) FCT_MUST_CHECK;
/* The same without writing back: after a failure. Zero-initialised is fine. */
void fct_map_drop(fct_map *m);

/* A copy in host memory; release its data with fct_free. */
fct_status fct_tensor_read(fct_tensor *out, const fct_device *d,
                           const fct_tensor *t) FCT_MUST_CHECK;

/* Numbers that the host has and operations only read: the host's own where its memory is the
   device's, else a copy. Zero-initialised is empty. */
typedef struct fct_mirror {
    const float *data;
    void *owned;
} fct_mirror;
/* NULL numbers give a NULL mirror. The numbers outlive it and do not change. */
fct_status fct_mirror_init(fct_mirror *out, const fct_device *d, const float *numbers,
                           int64_t n) FCT_MUST_CHECK;
void fct_mirror_clear(const fct_device *d, fct_mirror *m);

#endif

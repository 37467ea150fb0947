#ifndef PULSEFS_CFUSE_H
#define PULSEFS_CFUSE_H

// libfuse asks every program to say which API it was written for before its headers are read; 3.14 is the first with
// fuse_session_custom_io, which the whole of `Fuse` stands on.
#define FUSE_USE_VERSION 314

// As in CLinux: fd_set first, as the Glibc module reads it, everything else with _GNU_SOURCE.
#include <sys/select.h>
#undef _FEATURES_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <features.h>

#include <fuse_lowlevel.h>

#endif

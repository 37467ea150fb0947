#ifndef PULSEFS_CFUSE_H
#define PULSEFS_CFUSE_H

// libfuse asks every program to say which API it was written for before its headers are read; 3.14 is the first with
// fuse_session_custom_io, which the whole of `Fuse` stands on.
#define FUSE_USE_VERSION 314

// As in CLinux: modules that see the same glibc header with different feature macros do not fit into one program.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <fuse_lowlevel.h>

#endif

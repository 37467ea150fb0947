// mallinfo2(3), memfd_create(2) and setxattr(2), which Swift's Glibc module leaves out.
//
// As in the shim of CLinux: fd_set has another member name under _GNU_SOURCE, so it is read first, as the Glibc module
// reads it. Whether the compiler compares the two depends on the order in which it reads the modules.
#include <sys/select.h>
#undef _FEATURES_H
#define _GNU_SOURCE
#include <features.h>

#include <malloc.h>
#include <sys/mman.h>
#include <sys/xattr.h>

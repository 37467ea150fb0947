// mallinfo2(3), memfd_create(2) and setxattr(2), which Swift's Glibc module leaves out.
#define _GNU_SOURCE
#include <malloc.h>
#include <sys/mman.h>
#include <sys/xattr.h>

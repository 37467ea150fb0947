// mallinfo2(3) and malloc_trim(3): Swift's Glibc module does not include <malloc.h>.
#include <malloc.h>

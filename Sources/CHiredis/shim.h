#ifndef PULSEFS_CHIREDIS_H
#define PULSEFS_CHIREDIS_H

#include <hiredis/hiredis.h>

#endif

/* facet/facet.h - includes everything that facet offers, and says which version it is.

   Do this:
       if (strcmp(fct_version(), FCT_VERSION_TEXT) != 0)
           printf("compiled with the headers of %s\n", FCT_VERSION_TEXT);
       printf("runs on facet %s\n", fct_version());

   The macros are of the headers that a program was compiled with, fct_version() (facet/base.h) is
   of the library that it runs on. Before 1.0 the soname holds both first numbers: libraries of one
   soname serve programs that were compiled with any of its versions. Within one, structs grow at
   their end only, and a program that starts them as {0} gets the defaults of what it does not know;
   functions and enumerators stay. */
#ifndef FACET_FACET_H
#define FACET_FACET_H

#include "facet/base.h"
#include "facet/device.h"
#include "facet/dist.h"
#include "facet/edit.h"
#include "facet/eval.h"
#include "facet/image.h"
#include "facet/index.h"
#include "facet/model.h"
#include "facet/option.h"
#include "facet/recipe.h"
#include "facet/rows.h"
#include "facet/sae.h"
#include "facet/session.h"
#include "facet/store.h"
#include "facet/tensor.h"
#include "facet/train.h"

#define FCT_VERSION_MAJOR 0
#define FCT_VERSION_MINOR 1
#define FCT_VERSION_PATCH 0
#define FCT_VERSION_TEXT "0.1.0"

#endif

/* web.h - declares the table of the files of web/, which are built into the program. */
#ifndef FCT_REPORT_WEB_H
#define FCT_REPORT_WEB_H

#include <stddef.h>

typedef struct fct_web_file {
    const char *name; /* "demo.css"; NULL ends the table */
    const char *data; /* ends with a NUL that is not counted */
    size_t size;
} fct_web_file;

extern const fct_web_file fct_web_files[];

#endif

/* twin_main.c - a twin for tests that are not in C: twin DESCRIPTION.json FOLDER */
#include "twin.h"

int main(int argc, char **argv)
{
    if (argc != 3) return fprintf(stderr, "twin DESCRIPTION.json FOLDER\n"), 2;
    if (twin_write(argv[1], argv[2]) == FCT_OK) return 0;
    return fprintf(stderr, "%s\n", fct_error_text()), 1;
}

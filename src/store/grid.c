/* grid.c - matches blocks on different grids that are read in step: row i is a cell of the finest
   grid, and every coarser block gives the row of its cell that lies there, so that a coarse cell
   goes with all the fine ones in it. Rows stay what the blocks wrote: averages of fine cells, the
   other way to match them, are rows that no block ever writes, and an SAE of them would not fit
   what edits see. */
#include "store/store.h"

fct_grid fct_grid_finest(fct_grid a, fct_grid b)
{
    return b.h * b.w > a.h * a.w ? b : a;
}

static bool same(fct_grid a, fct_grid b)
{
    return a.h == b.h && a.w == b.w;
}

int64_t fct_grid_row(int64_t row, fct_grid fine, fct_grid own)
{
    if (same(fine, own)) return row;
    int64_t cells = fine.h * fine.w, map = row / cells, y = row % cells / fine.w, x = row % fine.w;
    return (map * own.h + y * own.h / fine.h) * own.w + x * own.w / fine.w;
}

void fct_grid_range(int64_t *first, int64_t *n, fct_grid fine, fct_grid own)
{
    int64_t cells = fine.h * fine.w, end = *first + *n;
    if (same(fine, own)) return;
    *first = *first / cells * own.h * own.w;
    *n = (end + cells - 1) / cells * own.h * own.w - *first;
}

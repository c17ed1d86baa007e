/* crc.c - computes CRC-32C (Castagnoli, as in RFC 3720), which tells a damaged file from a whole
   one and frames the records of TensorBoard's event files. Eight bytes a round through eight
   tables, which whoever computes one keeps. */
#include "base/base.h"

void fct_crc32c_init(fct_crc32c *c)
{
    *c = (fct_crc32c){0};
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int bit = 0; bit < 8; bit++) v = v & 1 ? v >> 1 ^ 0x82f63b78u : v >> 1;
        c->table[0][i] = v;
    }
    for (int t = 1; t < 8; t++)
        for (int i = 0; i < 256; i++) {
            uint32_t before = c->table[t - 1][i];
            c->table[t][i] = before >> 8 ^ c->table[0][before & 0xff];
        }
}

void fct_crc32c_add(fct_crc32c *c, const void *data, int64_t n)
{
    const uint8_t *p = data;
    uint32_t v = ~c->value;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t lo = v ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                           (uint32_t)p[3] << 24);
        v = c->table[7][lo & 0xff] ^ c->table[6][lo >> 8 & 0xff] ^ c->table[5][lo >> 16 & 0xff] ^
            c->table[4][lo >> 24] ^ c->table[3][p[4]] ^ c->table[2][p[5]] ^ c->table[1][p[6]] ^
            c->table[0][p[7]];
    }
    for (; n > 0; n--, p++) v = v >> 8 ^ c->table[0][(v ^ *p) & 0xff];
    c->value = ~v;
}

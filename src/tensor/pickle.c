/* pickle.c - reads Python pickles with a stack machine that builds a tree and calls nothing. Limits
   on everything that a hostile file could make large: nodes, stack, memo. Depth is limited by those
   who walk the tree, since a pickle can tie it into a ring. */
#include "tensor/pickle.h"

#include <inttypes.h>
#include <string.h>

enum { MAX_NODES = 1 << 23, MAX_STACK = 1 << 22, MAX_MEMO = 1 << 22, MARK = -1 };

typedef enum global_kind {
    G_DICT,
    G_TENSOR,
    G_TENSOR_V3,
    G_PARAMETER,
    G_SIZE,
    G_STORAGE,
    G_UNTYPED,
    G_DTYPE
} global_kind;

/* Everything that a file may name. */
static const struct {
    const char *module, *name;
    global_kind kind;
    fct_dtype dtype;
} allowed[] = {
    {"collections", "OrderedDict", G_DICT, FCT_F32},
    {"torch._utils", "_rebuild_tensor_v2", G_TENSOR, FCT_F32},
    {"torch._utils", "_rebuild_tensor_v3", G_TENSOR_V3, FCT_F32},
    {"torch._utils", "_rebuild_parameter", G_PARAMETER, FCT_F32},
    {"torch", "Size", G_SIZE, FCT_F32},
    {"torch", "FloatStorage", G_STORAGE, FCT_F32},
    {"torch", "HalfStorage", G_STORAGE, FCT_F16},
    {"torch", "BFloat16Storage", G_STORAGE, FCT_BF16},
    {"torch", "DoubleStorage", G_STORAGE, FCT_F64},
    {"torch", "LongStorage", G_STORAGE, FCT_I64},
    {"torch", "IntStorage", G_STORAGE, FCT_I32},
    {"torch", "ShortStorage", G_STORAGE, FCT_I16},
    {"torch", "CharStorage", G_STORAGE, FCT_I8},
    {"torch", "ByteStorage", G_STORAGE, FCT_U8},
    {"torch", "BoolStorage", G_STORAGE, FCT_BOOL},
    {"torch.storage", "UntypedStorage", G_UNTYPED, FCT_U8},
    {"torch", "uint16", G_DTYPE, FCT_U16},
    {"torch", "uint32", G_DTYPE, FCT_U32},
    {"torch", "uint64", G_DTYPE, FCT_U64},
    {"torch", "float32", G_DTYPE, FCT_F32},
    {"torch", "float16", G_DTYPE, FCT_F16},
    {"torch", "bfloat16", G_DTYPE, FCT_BF16},
    {"torch", "float64", G_DTYPE, FCT_F64},
    {"torch", "int64", G_DTYPE, FCT_I64},
};

typedef struct vm {
    const uint8_t *p, *end;
    const char *name;
    fct_pickle *out;
    int32_t *stack, *memo;
    int64_t n_stack, cap_stack, n_memo;
} vm;

static fct_status bad(const vm *m, const char *what)
{
    return fct_fail(FCT_ERR_FORMAT, "%s: damaged or not a torch file: %s", m->name, what);
}

/* ---- bytes ---- */

static fct_status take(vm *m, const uint8_t **out, int64_t n)
{
    if (n < 0 || n > m->end - m->p) return bad(m, "the pickle is cut short");
    *out = m->p;
    m->p += n;
    return FCT_OK;
}

/* Little-endian, unsigned, 1 to 4 bytes. */
static fct_status take_uint(vm *m, int64_t *out, int bytes)
{
    const uint8_t *p;
    *out = 0;
    FCT_TRY(take(m, &p, bytes));
    for (int i = 0; i < bytes; i++) *out |= (int64_t)p[i] << (8 * i);
    return FCT_OK;
}

/* ---- stack and nodes ---- */

static fct_status push(vm *m, int32_t node)
{
    if (m->n_stack == MAX_STACK) return bad(m, "its stack grows beyond all measure");
    if (m->n_stack == m->cap_stack) {
        int64_t cap = m->cap_stack ? 2 * m->cap_stack : 256;
        FCT_TRY(fct_grow(&m->stack, m->cap_stack, cap, (int64_t)sizeof *m->stack));
        m->cap_stack = cap;
    }
    m->stack[m->n_stack++] = node;
    return FCT_OK;
}

static fct_status pop(vm *m, int32_t *node)
{
    *node = 0;
    if (m->n_stack == 0 || m->stack[m->n_stack - 1] == MARK)
        return bad(m, "it takes more from its stack than is there");
    *node = m->stack[--m->n_stack];
    return FCT_OK;
}

static fct_pk_node *at(const vm *m, int32_t node)
{
    return &m->out->node[node];
}

/* Makes a node and pushes it; *out (may be NULL) is valid until the next node is made. */
static fct_status make(vm *m, fct_pk_kind kind, fct_pk_node **out)
{
    fct_pickle *p = m->out;
    if (p->n == MAX_NODES) return bad(m, "it holds too many objects");
    if (p->n == p->cap) {
        int64_t cap = p->cap ? 2 * p->cap : 256;
        FCT_TRY(fct_grow(&p->node, p->cap, cap, (int64_t)sizeof *p->node));
        p->cap = cap;
    }
    FCT_TRY(push(m, (int32_t)p->n));
    p->node[p->n] = (fct_pk_node){.kind = kind};
    if (out) *out = &p->node[p->n];
    p->n++;
    return FCT_OK;
}

static fct_status make_int(vm *m, fct_pk_kind kind, int64_t v)
{
    fct_pk_node *node;
    FCT_TRY(make(m, kind, &node));
    node->i = v;
    return FCT_OK;
}

static fct_status add_items(fct_pk_node *to, const int32_t *item, int64_t n)
{
    if (to->n + n > to->cap) {
        int64_t cap = to->cap * 2 > to->n + n ? to->cap * 2 : to->n + n;
        FCT_TRY(fct_grow(&to->item, to->cap, cap, (int64_t)sizeof *item));
        to->cap = cap;
    }
    if (n > 0) memcpy(to->item + to->n, item, (size_t)n * sizeof *item);
    to->n += n;
    return FCT_OK;
}

/* Index on the stack of the first item after the last mark. */
static fct_status find_mark(const vm *m, int64_t *first)
{
    for (int64_t i = m->n_stack; i > 0; i--) {
        if (m->stack[i - 1] != MARK) continue;
        *first = i;
        return FCT_OK;
    }
    return bad(m, "a mark is missing on its stack");
}

/* The top n items of the stack become one tuple; a mark below them goes as well when marked. */
static fct_status make_tuple(vm *m, int64_t n, bool marked)
{
    fct_pk_node tuple = {.kind = FCT_PK_TUPLE}, *node;
    if (n > m->n_stack) return bad(m, "it takes more from its stack than is there");
    for (int64_t i = m->n_stack - n; i < m->n_stack; i++)
        if (m->stack[i] == MARK) return bad(m, "a mark inside a tuple");
    if (n > 0) FCT_TRY(add_items(&tuple, m->stack + m->n_stack - n, n));
    m->n_stack -= n + marked;
    fct_status st = make(m, FCT_PK_TUPLE, &node);
    if (st == FCT_OK)
        *node = tuple;
    else
        fct_free(tuple.item);
    return st;
}

/* APPENDS and SETITEMS: what lies above the mark goes into the container below it. */
static fct_status fill(vm *m, fct_pk_kind kind, int64_t first)
{
    int64_t n = m->n_stack - first, below = first - 1;
    if (below > 0 && m->stack[below] == MARK) below--;
    if (below < 0 || m->stack[below] == MARK || at(m, m->stack[below])->kind != kind)
        return bad(m, kind == FCT_PK_DICT ? "items for something that is not a dictionary"
                                          : "items for something that is not a list");
    if (kind == FCT_PK_DICT && n % 2 != 0) return bad(m, "a key without a value");
    FCT_TRY(add_items(at(m, m->stack[below]), m->stack + first, n));
    m->n_stack = below + 1;
    return FCT_OK;
}

static fct_status fill_marked(vm *m, fct_pk_kind kind)
{
    int64_t first;
    FCT_TRY(find_mark(m, &first));
    return fill(m, kind, first);
}

/* APPEND and SETITEM: the same for the top n items, without a mark. */
static fct_status fill_top(vm *m, fct_pk_kind kind, int64_t n)
{
    if (m->n_stack < n + 1) return bad(m, "it takes more from its stack than is there");
    for (int64_t i = m->n_stack - n - 1; i < m->n_stack; i++)
        if (m->stack[i] == MARK) return bad(m, "a mark where an item is wanted");
    return fill(m, kind, m->n_stack - n);
}

/* ---- memo ---- */

static fct_status memo_put(vm *m, int64_t key)
{
    if (m->n_stack == 0 || m->stack[m->n_stack - 1] == MARK) return bad(m, "it remembers nothing");
    if (key >= MAX_MEMO) return bad(m, "its memo grows beyond all measure");
    if (key >= m->n_memo) {
        int64_t cap = key < m->n_memo * 2 ? m->n_memo * 2 : key + 64;
        FCT_TRY(fct_grow(&m->memo, m->n_memo, cap, (int64_t)sizeof *m->memo));
        m->n_memo = cap;
    }
    m->memo[key] = m->stack[m->n_stack - 1] + 1; /* zero is unset */
    return FCT_OK;
}

static fct_status memo_get(vm *m, int64_t key)
{
    if (key >= m->n_memo || m->memo[key] == 0) return bad(m, "it recalls what it never remembered");
    return push(m, m->memo[key] - 1);
}

/* ---- names, calls, storages ---- */

static fct_status take_line(vm *m, const char **text, int64_t *n)
{
    const uint8_t *end = memchr(m->p, '\n', (size_t)(m->end - m->p));
    if (!end) return bad(m, "the pickle is cut short");
    *text = (const char *)m->p;
    *n = end - m->p;
    m->p = end + 1;
    return FCT_OK;
}

static bool is_text(const char *a, int64_t n, const char *b)
{
    return (int64_t)strlen(b) == n && memcmp(a, b, (size_t)n) == 0;
}

static fct_status op_global(vm *m)
{
    const char *module, *name;
    int64_t n_module, n_name;
    FCT_TRY(take_line(m, &module, &n_module));
    FCT_TRY(take_line(m, &name, &n_name));
    for (size_t i = 0; i < FCT_COUNT(allowed); i++)
        if (is_text(module, n_module, allowed[i].module) && is_text(name, n_name, allowed[i].name))
            return make_int(m, FCT_PK_GLOBAL, (int64_t)i);
    return fct_fail(
        FCT_ERR_UNSUPPORTED,
        "%s: refused: the file asks for %.*s.%.*s, facet reads tensors only and runs nothing",
        m->name, (int)(n_module < 100 ? n_module : 100), module, (int)(n_name < 100 ? n_name : 100),
        name);
}

/* ('storage', torch.FloatStorage, '0', 'cpu', 12)

   In the legacy layout there is a sixth item, which must be None. */
static fct_status op_persistent(vm *m)
{
    int32_t id;
    fct_pk_node *storage;
    FCT_TRY(pop(m, &id));
    const fct_pk_node *t = at(m, id);
    if (t->kind != FCT_PK_TUPLE || t->n < 5 || t->n > 6)
        return bad(m, "a storage is not described by a tuple");
    const fct_pk_node *tag = at(m, t->item[0]), *type = at(m, t->item[1]), *key = at(m, t->item[2]);
    const fct_pk_node *numel = at(m, t->item[4]);
    if (tag->kind != FCT_PK_TEXT || !is_text(tag->text, tag->n, "storage") ||
        type->kind != FCT_PK_GLOBAL || key->kind != FCT_PK_TEXT || numel->kind != FCT_PK_INT ||
        numel->i < 0)
        return bad(m, "a storage is not described as torch does it");
    if (allowed[type->i].kind != G_STORAGE && allowed[type->i].kind != G_UNTYPED)
        return bad(m, "a storage of no storage type");
    if (t->n == 6 && at(m, t->item[5])->kind != FCT_PK_NONE)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: a storage that is a view of another: save it again with torch.save",
                        m->name);
    fct_pk_node made = {.kind = FCT_PK_STORAGE,
                        .dtype = allowed[type->i].dtype,
                        .untyped = allowed[type->i].kind == G_UNTYPED,
                        .i = numel->i,
                        .text = key->text,
                        .n = key->n};
    FCT_TRY(make(m, FCT_PK_STORAGE, &storage));
    *storage = made;
    return FCT_OK;
}

static bool is_size_tuple(const vm *m, const fct_pk_node *t)
{
    if (t->kind != FCT_PK_TUPLE) return false;
    for (int64_t i = 0; i < t->n; i++)
        if (at(m, t->item[i])->kind != FCT_PK_INT) return false;
    return true;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata]);
   _rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata]) */
static fct_status rebuild_tensor(vm *m, const fct_pk_node *args, bool v3)
{
    fct_pk_node *tensor;
    if (args->n < (v3 ? 7 : 6) || args->n > 8)
        return bad(m, "a tensor with the wrong number of arguments");
    const fct_pk_node *storage = at(m, args->item[0]), *offset = at(m, args->item[1]);
    const fct_pk_node *size = at(m, args->item[2]), *stride = at(m, args->item[3]);
    if (storage->kind != FCT_PK_STORAGE || offset->kind != FCT_PK_INT || !is_size_tuple(m, size) ||
        !is_size_tuple(m, stride) || size->n != stride->n)
        return bad(m, "a tensor whose storage, offset, size or stride is not one");
    fct_dtype dtype = storage->dtype;
    if (v3) {
        const fct_pk_node *type = at(m, args->item[6]);
        if (type->kind != FCT_PK_GLOBAL || allowed[type->i].kind != G_DTYPE)
            return bad(m, "a tensor of no number format");
        dtype = allowed[type->i].dtype;
    } else if (storage->untyped) {
        return bad(m, "an untyped storage without a number format");
    }
    int64_t first = offset->i;
    int32_t part[3] = {args->item[0], args->item[2], args->item[3]};
    FCT_TRY(make(m, FCT_PK_TENSOR, &tensor));
    tensor->dtype = dtype;
    tensor->i = first;
    return add_items(tensor, part, 3);
}

static fct_status op_reduce(vm *m)
{
    int32_t i_args, i_callee;
    FCT_TRY(pop(m, &i_args));
    FCT_TRY(pop(m, &i_callee));
    const fct_pk_node *args = at(m, i_args), *callee = at(m, i_callee);
    if (args->kind != FCT_PK_TUPLE || callee->kind != FCT_PK_GLOBAL)
        return bad(m, "a call of something that is no function");
    switch (allowed[callee->i].kind) {
    case G_DICT:
        if (args->n != 0) return bad(m, "an OrderedDict with arguments");
        return make(m, FCT_PK_DICT, NULL);
    case G_TENSOR: return rebuild_tensor(m, args, false);
    case G_TENSOR_V3: return rebuild_tensor(m, args, true);
    case G_PARAMETER:
        if (args->n != 3 || at(m, args->item[0])->kind != FCT_PK_TENSOR)
            return bad(m, "a parameter that holds no tensor");
        return push(m, args->item[0]);
    case G_SIZE:
        if (args->n != 1 || at(m, args->item[0])->kind != FCT_PK_TUPLE)
            return bad(m, "a torch.Size that is no tuple");
        return push(m, args->item[0]);
    default: return bad(m, "a call of something that is no function");
    }
}

/* state_dict() leaves an attribute `_metadata` on its OrderedDict;
   attributes hold no tensors that matter. */
static fct_status op_build(vm *m)
{
    int32_t state;
    FCT_TRY(pop(m, &state));
    if (m->n_stack == 0 || m->stack[m->n_stack - 1] == MARK ||
        at(m, m->stack[m->n_stack - 1])->kind != FCT_PK_DICT)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: it holds Python objects with a state; save the state dict alone",
                        m->name);
    return FCT_OK;
}

static fct_status make_text(vm *m, int length_bytes)
{
    const uint8_t *p;
    int64_t n;
    fct_pk_node *node;
    FCT_TRY(take_uint(m, &n, length_bytes));
    FCT_TRY(take(m, &p, n));
    FCT_TRY(make(m, FCT_PK_TEXT, &node));
    node->text = (const char *)p;
    node->n = n;
    return FCT_OK;
}

static fct_status make_long(vm *m)
{
    const uint8_t *p;
    int64_t n;
    FCT_TRY(take_uint(m, &n, 1));
    FCT_TRY(take(m, &p, n));
    if (n > 8) return make(m, FCT_PK_LONG, NULL);
    uint64_t v = n > 0 && p[n - 1] >= 0x80 ? UINT64_MAX : 0; /* two's complement of n bytes */
    for (int64_t i = n; i > 0; i--) v = v << 8 | p[i - 1];
    return make_int(m, FCT_PK_INT, (int64_t)v);
}

static fct_status make_int_n(vm *m, int bytes)
{
    int64_t v;
    FCT_TRY(take_uint(m, &v, bytes));
    return make_int(m, FCT_PK_INT, bytes == 4 ? (int32_t)(uint32_t)v : v);
}

static fct_status make_tuple_marked(vm *m)
{
    int64_t first;
    FCT_TRY(find_mark(m, &first));
    return make_tuple(m, m->n_stack - first, true);
}

static fct_status memo_op(vm *m, int bytes, fct_status (*what)(vm *, int64_t))
{
    int64_t key;
    FCT_TRY(take_uint(m, &key, bytes));
    return what(m, key);
}

static fct_status step(vm *m, int op)
{
    const uint8_t *skipped;
    switch (op) {
    case 0x80: return take(m, &skipped, 1);   /* PROTO */
    case 'c': return op_global(m);            /* GLOBAL */
    case 'q': return memo_op(m, 1, memo_put); /* BINPUT */
    case 'r': return memo_op(m, 4, memo_put); /* LONG_BINPUT */
    case 'h': return memo_op(m, 1, memo_get); /* BINGET */
    case 'j': return memo_op(m, 4, memo_get); /* LONG_BINGET */
    case '(': return push(m, MARK);           /* MARK */
    case 'X': return make_text(m, 4);         /* BINUNICODE */
    case 0x8c: return make_text(m, 1);        /* SHORT_BINUNICODE */
    case 'U': return make_text(m, 1);         /* SHORT_BINSTRING */
    case 'T': return make_text(m, 4);         /* BINSTRING */
    case 'J': return make_int_n(m, 4);        /* BININT */
    case 'K': return make_int_n(m, 1);        /* BININT1 */
    case 'M': return make_int_n(m, 2);        /* BININT2 */
    case 0x8a: return make_long(m);           /* LONG1 */
    case 'G': /* BINFLOAT */ FCT_TRY(take(m, &skipped, 8)); return make(m, FCT_PK_FLOAT, NULL);
    case 'N': return make(m, FCT_PK_NONE, NULL);   /* NONE */
    case 0x88: return make_int(m, FCT_PK_BOOL, 1); /* NEWTRUE */
    case 0x89: return make_int(m, FCT_PK_BOOL, 0); /* NEWFALSE */
    case ')': return make_tuple(m, 0, false);      /* EMPTY_TUPLE */
    case 't': return make_tuple_marked(m);         /* TUPLE */
    case 0x85: return make_tuple(m, 1, false);     /* TUPLE1 */
    case 0x86: return make_tuple(m, 2, false);     /* TUPLE2 */
    case 0x87: return make_tuple(m, 3, false);     /* TUPLE3 */
    case ']': return make(m, FCT_PK_LIST, NULL);   /* EMPTY_LIST */
    case 'a': return fill_top(m, FCT_PK_LIST, 1);  /* APPEND */
    case 'e': return fill_marked(m, FCT_PK_LIST);  /* APPENDS */
    case '}': return make(m, FCT_PK_DICT, NULL);   /* EMPTY_DICT */
    case 's': return fill_top(m, FCT_PK_DICT, 2);  /* SETITEM */
    case 'u': return fill_marked(m, FCT_PK_DICT);  /* SETITEMS */
    case 'Q': return op_persistent(m);             /* BINPERSID */
    case 'R': return op_reduce(m);                 /* REDUCE */
    case 'b': return op_build(m);                  /* BUILD */
    default:
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: refused: pickle operation 0x%02x is not one that torch.save uses",
                        m->name, (unsigned)op);
    }
}

fct_status fct_pickle_parse(fct_pickle *out, const uint8_t *data, int64_t n, const char *name)
{
    fct_status st = FCT_OK;
    *out = (fct_pickle){0};
    vm m = {.p = data, .end = data + n, .name = name, .out = out};
    for (;;) {
        const uint8_t *op;
        FCT_TRY_OUT(take(&m, &op, 1));
        if (*op == '.') break;
        FCT_TRY_OUT(step(&m, *op));
    }
    FCT_TRY_OUT(pop(&m, &out->root));
    out->used = m.p - data;
out:
    fct_free(m.stack);
    fct_free(m.memo);
    return st;
}

void fct_pickle_clear(fct_pickle *p)
{
    for (int64_t i = 0; i < p->n; i++) fct_free(p->node[i].item);
    fct_free(p->node);
    *p = (fct_pickle){0};
}

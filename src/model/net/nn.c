/* nn.c - runs layers: one fused operation when nobody watches, the same computation in its separate
   parts when a tap wants to see what lies between. */
#include "model/net/net.h"

fct_status fct_add_run(fct_rt *rt, fct_tensor a, fct_tensor b, fct_tensor y)
{
    return fct_op_add(&rt->cx, &(fct_add_args){.a = a, .b = b, .y = y, .scale = 1});
}

fct_status fct_linear_run(fct_rt *rt, const fct_linear *l, fct_tensor x, fct_tensor y, fct_act act,
                          fct_tensor residual)
{
    fct_linear_args a = {
        .x = x, .y = y, .w = &l->w, .bias = l->bias, .act = act, .residual = residual};
    if (!fct_tapped(rt, l->id)) return fct_op_linear(&rt->cx, &a);
    FCT_TRY(fct_tap_in(rt, l->id, &x));
    FCT_TRY(
        fct_op_linear(&rt->cx, &(fct_linear_args){.x = x, .y = y, .w = &l->w, .bias = l->bias}));
    FCT_TRY(fct_tap_out(rt, l->id, &y, &x));
    if (act != FCT_ACT_NONE)
        FCT_TRY(fct_op_unary(&rt->cx, &(fct_unary_args){.x = y, .y = y, .act = act}));
    return residual.ndim ? fct_add_run(rt, y, residual, y) : FCT_OK;
}

fct_status fct_conv_run(fct_rt *rt, const fct_conv *c, fct_tensor x, fct_tensor y,
                        const fct_conv_how *how)
{
    fct_conv2d_args a = {.w = &c->w,
                         .bias = c->bias,
                         .stride = how->stride,
                         .pad_top = how->pad_lo,
                         .pad_left = how->pad_lo,
                         .pad_bottom = how->pad_hi,
                         .pad_right = how->pad_hi,
                         .up_h = how->up_h,
                         .up_w = how->up_w,
                         .channel_add = how->channel_add,
                         .residual = how->residual,
                         .x = x,
                         .y = y};
    if (!fct_tapped(rt, c->id)) return fct_op_conv2d(&rt->cx, &a);
    FCT_TRY(fct_tap_in(rt, c->id, &x));
    a.x = x;
    a.channel_add = NULL;
    a.residual = (fct_tensor){0};
    FCT_TRY(fct_op_conv2d(&rt->cx, &a));
    FCT_TRY(fct_tap_out(rt, c->id, &y, &x));
    if (how->channel_add)
        FCT_TRY(fct_op_add_channels(
            &rt->cx, &(fct_add_channels_args){.x = y, .y = y, .add = how->channel_add}));
    return how->residual.ndim ? fct_add_run(rt, y, how->residual, y) : FCT_OK;
}

static fct_status norm_op(fct_rt *rt, const fct_norm *n, fct_tensor x, fct_tensor y, fct_act act)
{
    if (n->groups == 0)
        return fct_op_layer_norm(
            &rt->cx, &(fct_layer_norm_args){
                         .x = x, .y = y, .gamma = n->gamma, .beta = n->beta, .eps = n->eps});
    return fct_op_group_norm(&rt->cx, &(fct_group_norm_args){.x = x,
                                                             .y = y,
                                                             .gamma = n->gamma,
                                                             .beta = n->beta,
                                                             .groups = n->groups,
                                                             .eps = n->eps,
                                                             .act = act});
}

fct_status fct_norm_run(fct_rt *rt, const fct_norm *n, fct_tensor x, fct_tensor y, fct_act act)
{
    if (!fct_tapped(rt, n->id)) return norm_op(rt, n, x, y, act);
    fct_tensor before; /* norms may run in place, and DELTA needs what was there */
    FCT_TRY(fct_rt_take(rt, &before, x.dtype, x.ndim, x.dim));
    FCT_TRY(fct_copy_run(rt, x, before));
    FCT_TRY(fct_tap_in(rt, n->id, &before));
    FCT_TRY(norm_op(rt, n, before, y, FCT_ACT_NONE));
    FCT_TRY(fct_tap_out(rt, n->id, &y, &before));
    return act == FCT_ACT_NONE
               ? FCT_OK
               : fct_op_unary(&rt->cx, &(fct_unary_args){.x = y, .y = y, .act = act});
}

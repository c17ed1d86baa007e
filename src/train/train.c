/* train.c - runs a training: batches from one or several sources, steps of every SAE in a list,
   checkpoints, stopping.

   Batches are always full: one that the end of a pass cuts short is completed from the next pass,
   which the source serves in an order of its own. A batch is read once for all SAEs of its stream,
   and every SAE has its own plan, so each ends as if it were alone. With a checkpoint folder, a
   stopped or killed run continues where its last checkpoint was and ends with the same bytes.

   Several ranks do the same steps, each on its part of every batch's rows, and hold the same
   weights all the time; or, where there are as many SAEs as ranks, each has SAEs of its own
   (members.c). The first one writes. Whatever one of them meets, all end together. */
#include <string.h>

#include "train/train.h"
#include "train/variant.h"

typedef struct training {
    fct_train_run *run;
    const fct_train_desc *desc; /* the first member's: what concerns the whole run */
    fct_train_state s;
    int64_t batch;
    float **rows; /* one a stream: [batch,D] */
    fct_metrics_log log;
    bool apart;     /* ranks have SAEs of their own, not a part of every batch */
    double started; /* seconds */
} training;

/* ---- rows ---- */

/* Blocks whose rows a batch has one after the other: the same for all SAEs of a stream. */
static int64_t mixed_blocks(const training *tr, int64_t stream)
{
    for (int64_t i = 0; i < tr->s.n; i++)
        if (tr->s.trainee[i].stream == stream) return fct_train_plan_mixed(&tr->s.trainee[i].plan);
    return 1;
}

static fct_status read_rows(training *tr, int64_t stream, float *out, int64_t want, bool wrap,
                            int64_t *out_n)
{
    const fct_batch_desc desc = {.source = &tr->run->stream[stream],
                                 .place = &tr->s.place[stream],
                                 .blocks = mixed_blocks(tr, stream),
                                 .want = want,
                                 .wrap = wrap};
    return fct_batch_read(out, out_n, &desc);
}

/* This rank's part of the next batch, while the stream goes on by a whole one; false: the rows end
   before that. */
static fct_status read_batch(training *tr, int64_t stream, bool wrap, bool *out_full)
{
    int64_t blocks = mixed_blocks(tr, stream), each = tr->batch / blocks, first, n,
            mine = fct_dist_part(tr->apart ? NULL : tr->run->ranks, each, &first),
            size[3] = {first * blocks, mine * blocks, (each - first - mine) * blocks};
    *out_full = true;
    for (int i = 0; i < 3 && *out_full; i++) {
        FCT_TRY(read_rows(tr, stream, i == 1 ? tr->rows[stream] : NULL, size[i], wrap, &n));
        *out_full = n == size[i];
    }
    return FCT_OK;
}

/* Columns that never change carry nothing, and the authors' explained variance divides by
   theirs. */
static void warn_of_constants(const training *tr, const float *rows, int64_t n, int64_t d)
{
    int64_t constant = 0;
    for (int64_t c = 0; c < d; c++) {
        int64_t r = 1;
        while (r < n && rows[r * d + c] == rows[c]) r++;
        constant += r >= n;
    }
    if (constant > 0 && n > 1)
        fct_log_line(tr->desc->log, FCT_LOG_WARN,
                     "%lld of %lld columns are constant in the first %lld rows: nothing is learned "
                     "from them, and the explained variance, a mean over columns, says little",
                     (long long)constant, (long long)d, (long long)n);
}

/* Every SAE of a stream from the same first rows, on every rank: so no sum differs. */
static fct_status calibrate_stream(training *tr, int64_t stream)
{
    fct_status st = FCT_OK;
    fct_row_source *source = &tr->run->stream[stream];
    const fct_trainee *first = NULL;
    float *rows = NULL;
    int64_t want = 0, n = 0, numbers;
    for (int64_t i = 0; i < tr->s.n; i++) {
        const fct_trainee *t = &tr->s.trainee[i];
        if (t->stream != stream) continue;
        if (!first) first = t;
        if (t->plan.calibration_rows > want) want = t->plan.calibration_rows;
    }
    if (want == 0) return FCT_OK;
    FCT_TRY_OUT(fct_mul_i64(&numbers, want, source->d));
    FCT_TRY_OUT(fct_new_raw(&rows, numbers, sizeof *rows));
    FCT_TRY_OUT(read_rows(tr, stream, rows, want, false, &n));
    warn_of_constants(tr, rows, n, source->d / mixed_blocks(tr, stream));
    for (int64_t i = 0; i < tr->s.n; i++) {
        fct_trainee *t = &tr->s.trainee[i];
        int64_t own = t->plan.calibration_rows < n ? t->plan.calibration_rows : n;
        if (t->stream == stream && own > 0) FCT_TRY_OUT(fct_trainee_calibrate(t, rows, own));
    }
    if (first->plan.train_calibration) {
        if (!source->rewind) {
            st = fct_option_fail(FCT_ERR_ARG, first->plan.spelling,
                                 "these rows cannot be read again, so calibration rows cannot be "
                                 "trained on: use {preset} unboxing");
            goto out;
        }
        FCT_TRY_OUT(source->rewind(source->self, 0));
    }
out:
    fct_free(rows);
    return fct_where(st, "calibration");
}

/* ---- the loop ---- */

/* Weights that drift apart would be no SAE's: processors that compute otherwise, or a bad one. */
static fct_status check_same(const training *tr)
{
    uint32_t mine, *all = NULL;
    fct_crc32c crc;
    fct_dist *ranks = tr->run->ranks;
    fct_status st = FCT_OK;
    if (fct_dist_alone(ranks)) return FCT_OK;
    fct_crc32c_init(&crc);
    fct_crc32c_add(&crc, &tr->s.step, sizeof tr->s.step);
    for (int64_t i = 0; i < tr->s.n; i++)
        for (int w = 0; w < FCT_PARAM_COUNT; w++) {
            int64_t n;
            const float *p = fct_trainee_param(&tr->s.trainee[i], w, &n);
            if (p) fct_crc32c_add(&crc, p, n * (int64_t)sizeof *p);
        }
    mine = crc.value;
    FCT_TRY(fct_new(&all, fct_dist_size(ranks), sizeof *all));
    st = fct_dist_gather(ranks, &mine, sizeof mine, all);
    for (int64_t r = 1; r < fct_dist_size(ranks) && st == FCT_OK; r++)
        if (all[r] != all[0])
            st =
                fct_fail(FCT_ERR_RANGE,
                         "step %lld: rank %lld holds other weights than rank 0: all ranks need the "
                         "same processors, program and files",
                         (long long)tr->s.step, (long long)r);
    fct_free(all);
    return st;
}

/* Where the rows stand. */
static fct_status mark_places(training *tr)
{
    if (!tr->desc->resume) return FCT_OK;
    for (int64_t i = 0; i < tr->run->n_streams; i++) {
        fct_row_source *source = &tr->run->stream[i];
        if (!source->tell || !source->seek)
            return fct_fail(FCT_ERR_ARG,
                            "these rows cannot say where they stand: no checkpoints are possible");
        memset(tr->s.place[i].blob, 0, sizeof tr->s.place[i].blob);
        FCT_TRY(source->tell(source->self, tr->s.place[i].blob));
    }
    return FCT_OK;
}

static fct_status checkpoint_here(training *tr)
{
    fct_dist *ranks = tr->run->ranks;
    fct_status st = FCT_OK;
    if (!tr->desc->resume) return FCT_OK;
    if (tr->apart) FCT_TRY(fct_members_share_weights(ranks, &tr->s));
    FCT_TRY(check_same(tr));
    if (fct_dist_first(ranks))
        st = fct_checkpoint_save(tr->desc->resume, &tr->s);
    return fct_dist_agree(ranks, st);
}

static fct_status checkpoint(training *tr)
{
    FCT_TRY(mark_places(tr));
    return checkpoint_here(tr);
}

/* Steps of the SAE that goes on for longest; 0: until the rows end. */
static int64_t all_steps(const training *tr)
{
    int64_t most = 0;
    for (int64_t i = 0; i < tr->s.n; i++) {
        if (tr->s.trainee[i].plan.steps == 0) return 0;
        if (tr->s.trainee[i].plan.steps > most) most = tr->s.trainee[i].plan.steps;
    }
    return most;
}

static fct_status seek_streams(training *tr)
{
    for (int64_t i = 0; i < tr->run->n_streams; i++) {
        fct_row_source *source = &tr->run->stream[i];
        if (!source->seek)
            return fct_fail(FCT_ERR_ARG, "these rows cannot be continued from the middle");
        if (source->rewind) FCT_TRY(source->rewind(source->self, tr->s.place[i].pass));
        FCT_TRY(source->seek(source->self, tr->s.place[i].blob));
    }
    return FCT_OK;
}

static void say_start(const training *tr, const fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    fct_log_line(
        tr->desc->log, FCT_LOG_INFO,
        "training%s%s: %s, D %lld, %lld features, k %lld, auxk %lld (%s), batch %lld, %lld "
        "steps, lr %g, loss scale %g, seed %llu",
        t->name ? " " : "", t->name ? t->name : "", t->plan.variant->name, (long long)t->sae->d,
        (long long)p->f, (long long)p->k, (long long)p->auxk,
        p->aux == FCT_AUX_SDXL_UNBOX ? "authors" : "clean", (long long)p->batch,
        (long long)p->steps, p->lr, p->loss_scale, (unsigned long long)p->seed);
}

static fct_status start(training *tr)
{
    bool go_on = tr->desc->resume && fct_sae_checkpoint_exists(tr->desc->resume);
    FCT_TRY(fct_dist_broadcast(tr->run->ranks, &go_on, sizeof go_on));
    for (int64_t i = 0; i < tr->run->n_streams; i++) {
        fct_row_source *source = &tr->run->stream[i];
        if (source->describe) FCT_TRY(source->describe(source->self, &tr->s.place[i].data));
    }
    if (go_on) {
        FCT_TRY(fct_checkpoint_load(tr->desc->resume, &tr->s, tr->desc->log));
        FCT_TRY(seek_streams(tr));
        fct_log_line(tr->desc->log, FCT_LOG_INFO, "continuing at step %lld of %lld",
                     (long long)tr->s.step, (long long)all_steps(tr));
    } else {
        for (int64_t i = 0; i < tr->run->n_streams; i++) {
            fct_row_source *source = &tr->run->stream[i];
            if (source->rewind) FCT_TRY(source->rewind(source->self, 0));
            FCT_TRY(calibrate_stream(tr, i));
        }
    }
    FCT_TRY(check_same(tr));
    for (int64_t i = 0; i < tr->s.n; i++) say_start(tr, &tr->s.trainee[i]);
    if (!fct_dist_alone(tr->run->ranks))
        fct_log_line(tr->desc->log, FCT_LOG_INFO, "%lld ranks of %d threads share %s",
                     (long long)tr->run->ranks->size, fct_threads(),
                     tr->apart ? "the SAEs" : "every batch");
    tr->started = fct_seconds();
    if (!fct_dist_first(tr->run->ranks)) return FCT_OK;
    return fct_metrics_log_open(&tr->log, tr->desc, tr->run->held_out, &tr->s);
}

static bool is_done(const fct_trainee *t)
{
    return t->lost || (t->plan.steps > 0 && t->now.step >= t->plan.steps);
}

/* One step of one SAE. Among several, one whose loss is not finite is given up. */
static fct_status step(training *tr, fct_trainee *t, bool log)
{
    fct_status st = fct_trainee_backward(t, tr->rows[t->stream], log);
    if (st == FCT_OK) return fct_trainee_update(t);
    if (st != FCT_ERR_RANGE || tr->s.n == 1) return st;
    return fct_strdup(&t->lost, fct_error_text());
}

static fct_status step_mine(training *tr, bool log)
{
    for (int64_t i = 0; i < tr->s.n; i++)
        if (!is_done(&tr->s.trainee[i]) && (!tr->apart || fct_members_mine(tr->run->ranks, i)))
            FCT_TRY(step(tr, &tr->s.trainee[i], log));
    return FCT_OK;
}

/* Of SAEs that were given up in this batch. */
static fct_status tell_lost(const training *tr)
{
    const fct_trainee *last = NULL;
    int64_t lost = 0;
    for (int64_t i = 0; i < tr->s.n; i++) {
        const fct_trainee *t = &tr->s.trainee[i];
        lost += t->lost != NULL;
        if (!t->lost || t->now.step != tr->s.step - 1) continue;
        fct_log_line(tr->desc->log, FCT_LOG_WARN, "%s is given up: %s", t->name, t->lost);
        last = t;
    }
    if (last && lost == tr->s.n)
        return fct_fail(FCT_ERR_RANGE, "every SAE was lost; the last: %s", last->lost);
    return FCT_OK;
}

static fct_status run_batch(training *tr, bool *out_end)
{
    int64_t all = all_steps(tr), number = tr->s.step + 1;
    int64_t every = tr->run->held_out ? tr->desc->eval_every : 0;
    bool measure = every > 0 && number % every == 0;
    bool log = number % tr->s.trainee[0].plan.log_every == 0 || number == 1;
    *out_end = false;
    for (int64_t i = 0; i < tr->run->n_streams; i++) {
        bool full;
        FCT_TRY(fct_dist_agree(tr->run->ranks, read_batch(tr, i, all > 0, &full)));
        if (!full) { /* only rows of unknown number end here: what fills no batch is left */
            *out_end = true;
            return FCT_OK;
        }
    }
    for (int64_t i = 0; i < tr->s.n; i++)
        measure = measure || (!is_done(&tr->s.trainee[i]) && number == tr->s.trainee[i].plan.steps);
    log = log || measure;
    fct_status st = step_mine(tr, log);
    if (tr->apart) {
        FCT_TRY(fct_dist_agree(tr->run->ranks, st));
        FCT_TRY(fct_members_share_numbers(tr->run->ranks, &tr->s));
        if (measure && every > 0) FCT_TRY(fct_members_share_weights(tr->run->ranks, &tr->s));
    }
    FCT_TRY(st);
    tr->s.step = number;
    FCT_TRY(tell_lost(tr));
    if (!fct_dist_first(tr->run->ranks)) return FCT_OK;
    if (log) FCT_TRY(fct_metrics_log_note(&tr->log, &tr->s));
    fct_metrics_log_show(&tr->log, &tr->s, all);
    return FCT_OK;
}

static bool all_done(const training *tr)
{
    for (int64_t i = 0; i < tr->s.n; i++)
        if (!is_done(&tr->s.trainee[i])) return false;
    return true;
}

static fct_status loop(training *tr)
{
    int64_t every = tr->s.trainee[0].plan.checkpoint_every, saved = tr->s.step;
    bool end = false;
    while (!end && !all_done(tr)) {
        fct_dist *ranks = tr->run->ranks;
        FCT_TRY(mark_places(tr));
        int64_t before = tr->s.step;
        fct_status st = fct_dist_agree(ranks, fct_log_check_stop(tr->desc->log));
        if (st == FCT_OK) st = run_batch(tr, &end);
        /* keeps what was done, also where it was stopped while a model made the batch's rows */
        if (st == FCT_ERR_STOPPED && before > saved && tr->s.step == before) {
            fct_dist_go_on(ranks);
            FCT_TRY(checkpoint_here(tr));
            return fct_fail(st, "stopped on request");
        }
        FCT_TRY(st);
        if (every > 0 && tr->s.step % every == 0 && !end) {
            FCT_TRY(checkpoint(tr));
            saved = tr->s.step;
        }
    }
    if (tr->s.step == 0)
        return fct_fail(FCT_ERR_ARG, "the rows do not fill one batch of %lld",
                        (long long)tr->batch);
    return tr->s.step > saved ? checkpoint(tr) : FCT_OK;
}

/* ---- the whole ---- */

static fct_status check_members(const fct_train_run *run)
{
    if (run->n_members < 1 || run->n_streams < 1)
        return fct_fail(FCT_ERR_ARG, "there is no SAE to train, or no rows");
    for (int64_t i = 0; i < run->n_members; i++) {
        const fct_train_member *m = &run->member[i];
        if (m->stream < 0 || m->stream >= run->n_streams)
            return fct_fail(FCT_ERR_ARG, "SAE %lld: there is no stream %lld", (long long)i,
                            (long long)m->stream);
        if (run->n_members > 1 && (!m->name || !*m->name))
            return fct_fail(FCT_ERR_ARG, "SAE %lld of several has no name", (long long)i);
        for (int64_t k = 0; k < i && m->name; k++)
            if (strcmp(run->member[k].name, m->name) == 0)
                return fct_fail(FCT_ERR_ARG, "two SAEs are called %s", m->name);
    }
    for (int64_t i = 0; i < run->n_streams; i++)
        if (run->stream[i].d < 1)
            return fct_fail(FCT_ERR_SHAPE, "rows of %lld numbers cannot be trained on",
                            (long long)run->stream[i].d);
    return FCT_OK;
}

static fct_status init_trainee(training *tr, int64_t i)
{
    fct_status st = FCT_OK;
    const fct_train_member *m = &tr->run->member[i];
    fct_trainee *t = &tr->s.trainee[i];
    const fct_row_source *rows = &tr->run->stream[m->stream];
    fct_sae *init = NULL;
    fct_train_plan plan;
    int64_t d;
    if (m->desc.init_from) FCT_TRY_OUT(fct_sae_load(&init, m->desc.init_from, NULL));
    FCT_TRY_OUT(fct_train_plan_of_rows(&plan, &m->desc, rows, init, &d));
    plan.ranks = tr->apart ? NULL : tr->run->ranks;
    if (plan.batch / fct_train_plan_mixed(&plan) < fct_dist_size(plan.ranks)) {
        st = fct_option_fail(FCT_ERR_ARG, plan.spelling,
                             "a batch of %lld rows cannot be shared by %lld ranks: fewer ranks, or "
                             "a larger {batch_size}",
                             (long long)plan.batch, (long long)fct_dist_size(plan.ranks));
        goto out;
    }
    FCT_TRY_OUT(fct_trainee_init(t, &plan, d, init));
    t->name = tr->run->n_members > 1 ? m->name : NULL;
    t->stream = m->stream;
    for (int64_t k = 0; k < i; k++) FCT_TRY_OUT(fct_trainee_check_shared(t, &tr->s.trainee[k]));
out:
    fct_sae_free(init);
    return tr->run->n_members > 1 ? fct_where(st, "%s", m->name) : st;
}

static fct_status take_memory(training *tr)
{
    fct_train_run *run = tr->run;
    FCT_TRY(fct_new(&tr->s.trainee, run->n_members, sizeof *tr->s.trainee));
    tr->s.n = run->n_members;
    FCT_TRY(fct_new(&tr->s.place, run->n_streams, sizeof *tr->s.place));
    tr->s.n_places = run->n_streams;
    for (int64_t i = 0; i < run->n_members; i++) FCT_TRY(init_trainee(tr, i));
    tr->batch = tr->s.trainee[0].plan.batch;
    FCT_TRY(fct_new(&tr->rows, run->n_streams, sizeof *tr->rows));
    for (int64_t i = 0; i < run->n_streams; i++) {
        int64_t numbers;
        FCT_TRY(fct_mul_i64(&numbers, tr->batch, run->stream[i].d));
        FCT_TRY(fct_new_raw(&tr->rows[i], numbers, sizeof(float)));
    }
    return FCT_OK;
}

static void clear(training *tr)
{
    fct_metrics_log_close(&tr->log);
    for (int64_t i = 0; i < tr->run->n_streams && tr->rows; i++) fct_free(tr->rows[i]);
    fct_free(tr->rows);
    for (int64_t i = 0; i < tr->s.n; i++) fct_trainee_clear(&tr->s.trainee[i]);
    fct_free(tr->s.trainee);
    fct_free(tr->s.place);
}

fct_status fct_sae_train_many(fct_train_run *run)
{
    fct_status st = FCT_OK;
    training tr = {.run = run, .desc = run->n_members > 0 ? &run->member[0].desc : NULL};
    for (int64_t i = 0; i < run->n_members; i++) fct_train_member_forget(&run->member[i]);
    FCT_TRY_OUT(fct_dist_agree(run->ranks, check_members(run)));
    tr.apart = !fct_dist_alone(run->ranks) && run->n_members >= fct_dist_size(run->ranks);
    FCT_TRY_OUT(fct_dist_agree(run->ranks, take_memory(&tr)));
    FCT_TRY_OUT(start(&tr));
    FCT_TRY_OUT(loop(&tr));
    if (tr.apart) FCT_TRY_OUT(fct_members_share_weights(run->ranks, &tr.s));
    for (int64_t i = 0; i < run->n_members; i++)
        FCT_TRY_OUT(fct_train_finish(&run->member[i], &tr.s.trainee[i],
                                     tr.s.place[tr.s.trainee[i].stream].data,
                                     fct_seconds() - tr.started, tr.desc->log));
out:
    clear(&tr);
    return fct_where(st, "training");
}

fct_status fct_sae_train(fct_sae **out, fct_row_source *rows, const fct_train_desc *desc,
                         fct_train_report *report)
{
    fct_train_member member = {0};
    if (desc) member.desc = *desc;
    fct_train_run run = {.stream = rows, .n_streams = 1, .member = &member, .n_members = 1};
    *out = NULL;
    if (member.desc.mix_blocks && rows->n_parts > 1)
        return fct_fail(FCT_ERR_ARG, "mixed blocks give an SAE each: use fct_sae_train_many");
    fct_status st = fct_sae_train_many(&run);
    if (st == FCT_OK) {
        *out = member.sae;
        member.sae = NULL;
        if (report) *report = member.report;
    }
    fct_train_run_clear(&run);
    return st;
}

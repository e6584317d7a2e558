/* SPDX-License-Identifier: MIT
 *
 * The exposed tables, counted. They change while they are read: sums are of a moment that
 * never was, and no number is more than a frame or two off. */
#include "tables.h"

static struct exo_env_frames *env_entry(struct exo_memory *m, uint32_t env)
{
    for (uint32_t i = 0; i < m->nenvs; i++)
        if (m->envs[i].env == env) return &m->envs[i];
    if (m->nenvs == EXO_TABLES_ENVS) return NULL;
    m->envs[m->nenvs] = (struct exo_env_frames){.env = env};
    return &m->envs[m->nenvs++];
}

static void count_typed(struct exo_memory *m, unsigned type, uint32_t owner)
{
    struct exo_env_frames *e = env_entry(m, owner);
    m->typed++;
    if (!e)
        m->more++;
    else if (type <= EXO_FT_PT4)
        e->tables++;
    else if (type == EXO_FT_THREAD)
        e->threads++;
    else if (type == EXO_FT_CAPS)
        e->caps++;
}

static void count_frame(struct exo_memory *m, uint64_t word)
{
    unsigned type = EXO_FW_TYPE(word);
    uint32_t bindings = EXO_FW_BINDINGS(word);
    switch (type) {
    case EXO_FT_PLAIN:
        m->free += !bindings;
        m->bound += bindings != 0;
        m->bindings += bindings;
        break;
    case EXO_FT_KERNEL:
        m->kernel++;
        break;
    case EXO_FT_TABLE:
        m->exposed++;
        break;
    case EXO_FT_DEVICE:
        m->device++;
        break;
    default:
        count_typed(m, type, EXO_FW_OWNER(word));
    }
}

void exo_memory_count(struct exo_memory *memory)
{
    memset(memory, 0, sizeof(*memory));
    for (uint32_t f = 0; f < exo.info->frames; f++)
        count_frame(memory, exo.words[f]);
}

uint32_t exo_slots_run(uint32_t cpu, uint32_t first)
{
    const struct exo_slot *s = exo.slots + cpu * EXO_SLOTS_PER_CPU, *a = &s[first];
    uint32_t last = first;
    while (last + 1 < EXO_SLOTS_PER_CPU && s[last + 1].thread == a->thread &&
           s[last + 1].env == a->env && s[last + 1].flags == a->flags)
        last++;
    return last;
}

const struct exo_names *exo_names_map(void)
{
    static bool mapped;
    const struct exo_range *names = &exo.start.names;
    if (!names->sel) return NULL;
    if (!mapped && exo_bind(&exo.pool, EXO_NAMES_VA, 1, names->sel, names->first, EXO_R) < 0)
        return NULL;
    mapped = true;
    return (const struct exo_names *)EXO_NAMES_VA;
}

/* Prints the decision tables of both roles as Promela, so that the model follows the tables of the
 * code and no copy of them: primary/fsm.c and secondary/fsm.c are linked into this program.
 *
 *     #define PRIMARY_WAITING 0 ...
 *     inline primary_fsm_step(state, event) { sets next_state, actions, legal }
 *
 * Names are made from those of the enums, by the macros below. */
#include <stdio.h>

#include "primary/fsm.h"
#include "secondary/fsm.h"

#define NAME(constant) [constant] = #constant

static const char *const primary_states[PRIMARY_STATE_COUNT] = {
    NAME(PRIMARY_WAITING), NAME(PRIMARY_SYNCHRONISING), NAME(PRIMARY_PROTECTED),
    NAME(PRIMARY_ASKING),  NAME(PRIMARY_OUTRUN),        NAME(PRIMARY_SOLO),
    NAME(PRIMARY_FENCED),  NAME(PRIMARY_PREPARING),     NAME(PRIMARY_HANDING),
    NAME(PRIMARY_HANDED),  NAME(PRIMARY_RELEASING),     NAME(PRIMARY_LEAVING),
};

static const char *const primary_events[PRIMARY_EVENT_COUNT] = {
    NAME(PRIMARY_EVENT_CONNECTED), NAME(PRIMARY_EVENT_COMMITTED),  NAME(PRIMARY_EVENT_LOST_HELD),
    NAME(PRIMARY_EVENT_LOST_NEW),  NAME(PRIMARY_EVENT_LOST_OPEN),  NAME(PRIMARY_EVENT_SUSPECT),
    NAME(PRIMARY_EVENT_WAITED),    NAME(PRIMARY_EVENT_GRANTED),    NAME(PRIMARY_EVENT_REFUSED),
    NAME(PRIMARY_EVENT_OUTRUN),    NAME(PRIMARY_EVENT_UNANSWERED), NAME(PRIMARY_EVENT_SUPERSEDED),
    NAME(PRIMARY_EVENT_ORDERED),   NAME(PRIMARY_EVENT_PREPARED),   NAME(PRIMARY_EVENT_RESERVED),
    NAME(PRIMARY_EVENT_GIVEN_UP),  NAME(PRIMARY_EVENT_OVERDUE),    NAME(PRIMARY_EVENT_TAKEN),
    NAME(PRIMARY_EVENT_UNPROTECT), NAME(PRIMARY_EVENT_FREED),
};

static const char *const secondary_states[SECONDARY_STATE_COUNT] = {
    NAME(SECONDARY_CONNECTING), NAME(SECONDARY_SYNCHRONISING), NAME(SECONDARY_READY),
    NAME(SECONDARY_ORPHANED),   NAME(SECONDARY_ASKING),        NAME(SECONDARY_PROMOTING),
};

static const char *const secondary_events[SECONDARY_EVENT_COUNT] = {
    NAME(SECONDARY_EVENT_CONNECTED),  NAME(SECONDARY_EVENT_COMMITTED),
    NAME(SECONDARY_EVENT_RESYNC),     NAME(SECONDARY_EVENT_LOST),
    NAME(SECONDARY_EVENT_SUSPECT),    NAME(SECONDARY_EVENT_ALIVE),
    NAME(SECONDARY_EVENT_WELL),       NAME(SECONDARY_EVENT_FAILOVER),
    NAME(SECONDARY_EVENT_GRANTED),    NAME(SECONDARY_EVENT_REFUSED),
    NAME(SECONDARY_EVENT_UNANSWERED), NAME(SECONDARY_EVENT_SUPERSEDED),
    NAME(SECONDARY_EVENT_HANDED),
};

static void print_names(const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        printf("#define %s %d\n", names[i], i);
}

static void print_row(const char *state, const char *event, const char *next, unsigned actions)
{
    printf("    :: model_state == %s && model_event == %s ->\n"
           "        next_state = %s; actions = %u; legal = true\n",
           state, event, next, actions);
}

static void print_primary(void)
{
    print_names(primary_states, PRIMARY_STATE_COUNT);
    print_names(primary_events, PRIMARY_EVENT_COUNT);
    puts("inline primary_fsm_step(model_state, model_event)\n{\n    if");
    for (int s = 0; s < PRIMARY_STATE_COUNT; s++)
        for (int e = 0; e < PRIMARY_EVENT_COUNT; e++) {
            const struct primary_step step =
                primary_fsm_step((enum primary_state)s, (enum primary_event)e);
            if (step.legal)
                print_row(primary_states[s], primary_events[e], primary_states[step.state],
                          step.actions);
        }
    puts("    :: else -> next_state = model_state; actions = 0; legal = false\n    fi\n}");
    printf("#define ACT_PROTECT %d\n#define ACT_TURN_AWAY %d\n#define ACT_DROP %d\n"
           "#define ACT_ASK %d\n#define ACT_CANCEL %d\n#define ACT_OPEN %d\n#define ACT_FENCE %d\n"
           "#define ACT_PREPARE %d\n#define ACT_RESERVE %d\n#define ACT_OFFER %d\n"
           "#define ACT_GO_ON %d\n",
           PRIMARY_ACT_PROTECT, PRIMARY_ACT_TURN_AWAY, PRIMARY_ACT_DROP, PRIMARY_ACT_ASK,
           PRIMARY_ACT_CANCEL, PRIMARY_ACT_OPEN, PRIMARY_ACT_FENCE, PRIMARY_ACT_PREPARE,
           PRIMARY_ACT_RESERVE, PRIMARY_ACT_OFFER, PRIMARY_ACT_GO_ON);
}

static void print_secondary(void)
{
    print_names(secondary_states, SECONDARY_STATE_COUNT);
    print_names(secondary_events, SECONDARY_EVENT_COUNT);
    puts("inline secondary_fsm_step(model_state, model_event)\n{\n    if");
    for (int s = 0; s < SECONDARY_STATE_COUNT; s++)
        for (int e = 0; e < SECONDARY_EVENT_COUNT; e++) {
            const struct secondary_step step =
                secondary_fsm_step((enum secondary_state)s, (enum secondary_event)e);
            if (step.legal)
                print_row(secondary_states[s], secondary_events[e], secondary_states[step.state],
                          step.actions);
        }
    puts("    :: else -> next_state = model_state; actions = 0; legal = false\n    fi\n}");
    printf("#define SACT_CANCEL %d\n#define SACT_FOLLOW %d\n#define SACT_UNFOLLOW %d\n"
           "#define SACT_CONNECT %d\n#define SACT_ASK %d\n#define SACT_PROMOTE %d\n",
           SECONDARY_ACT_CANCEL, SECONDARY_ACT_FOLLOW, SECONDARY_ACT_UNFOLLOW,
           SECONDARY_ACT_CONNECT, SECONDARY_ACT_ASK, SECONDARY_ACT_PROMOTE);
}

int main(void)
{
    puts("/* Generated by test/model/tables.c from primary/fsm.c and secondary/fsm.c. */");
    print_primary();
    print_secondary();
    return 0;
}

/* What a side may say about itself, and how differences of identities are named. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/support/party.h"
#include "test/support/runner.h"
#include "transport/message.h"

#define AMPLE_MS 60000 /* never reached by a test that passes */

static void set(char *out, size_t size, const char *text)
{
    memset(out, 0, size);
    snprintf(out, size, "%s", text);
}

static void a_difference_far_into_a_long_line_is_shown(void)
{
    struct session_config *a = malloc(sizeof(*a));
    struct session_config *b = malloc(sizeof(*b));
    party_config(a, SESSION_PRIMARY, AMPLE_MS);
    party_config(b, SESSION_SECONDARY, AMPLE_MS);
    char list[1000];
    memset(list, '1', sizeof(list));
    snprintf(a->local.identity, sizeof(a->local.identity), "msrs=%.*s,10a,%.*s\n", 400, list, 400,
             list);
    snprintf(b->local.identity, sizeof(b->local.identity), "msrs=%.*s,20b,%.*s\n", 400, list, 400,
             list);
    struct error text = {0};
    CU_ASSERT_EQUAL(session_judge(&a->local, &b->local, &text), SESSION_CPU);
    CU_ASSERT_PTR_NOT_NULL(strstr(text.text, "peer has msrs=...1111"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text.text, ",20b,"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text.text, ",10a,"));
    CU_ASSERT(strlen(text.text) < MESSAGE_TEXT_MAX + 64);
    free(a);
    free(b);
}

static void keys_of_the_identity_have_their_reasons(void)
{
    CU_ASSERT_EQUAL(session_reason_of_key("vcpus", 5), SESSION_CPU);
    CU_ASSERT_EQUAL(session_reason_of_key("cpuid", 5), SESSION_CPU);
    CU_ASSERT_EQUAL(session_reason_of_key("msrs", 4), SESSION_CPU);
    CU_ASSERT_EQUAL(session_reason_of_key("memory", 6), SESSION_LAYOUT);
    CU_ASSERT_EQUAL(session_reason_of_key("memo", 4), SESSION_DEVICES);
    CU_ASSERT_EQUAL(session_reason_of_key("kernel", 6), SESSION_DEVICES);
    CU_ASSERT_STRING_EQUAL(session_reason_name(SESSION_LOWER_TERM), "lower-term");
    CU_ASSERT_STRING_EQUAL(session_reason_name((enum session_reason)99), "?");
}

static void a_party_that_makes_no_sense_does_not_leave_the_host(void)
{
    struct session_config *c = malloc(sizeof(*c));
    struct session *out = malloc(sizeof(*out));
    for (int i = 0; i < 10; i++) {
        party_config(c, SESSION_PRIMARY, AMPLE_MS);
        struct session_party *p = &c->local;
        switch (i) {
        case 0:
            p->role = (enum session_role)0;
            break;
        case 1:
            p->term = 0;
            break;
        case 2:
            set(p->vm_name, sizeof(p->vm_name), "");
            break;
        case 3:
            set(p->vm_name, sizeof(p->vm_name), "a b");
            break;
        case 4:
            p->slot_count = SESSION_SLOTS_MAX + 1;
            break;
        case 5:
            p->slots[1].gpa = PAGE_SIZE;
            break;
        case 6:
            p->memory_size++;
            break;
        case 7:
            set(p->identity, sizeof(p->identity), "vcpus=4\nno newline=1");
            break;
        case 8:
            p->slots[1].gpa = UINT64_MAX - PAGE_SIZE + 1;
            break;
        case 9:
            set(p->identity, sizeof(p->identity), "command-line=caf\xc3\xa9\n");
            break;
        }
        struct error err = {0};
        CU_ASSERT_EQUAL(session_connect(NULL, c, out, &err), -EINVAL);
        CU_ASSERT(err.text[0] != '\0');
    }
    free(c);
    free(out);
}

static const struct test_case cases[] = {
    {"a difference far into a long line is shown", a_difference_far_into_a_long_line_is_shown},
    {"keys of the identity have their reasons", keys_of_the_identity_have_their_reasons},
    {"a party that makes no sense does not leave the host",
     a_party_that_makes_no_sense_does_not_leave_the_host},
};

TEST_MAIN("party", cases)

/* What measurements of a KVM mean (vmm/probe.h). */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#include "base/clock.h"
#include "test/support/runner.h"
#include "vmm/probe.h"

/* A KVM with nothing wrong: a thousand million instructions in a second. */
static struct kvm_facts good_facts(void)
{
    struct kvm_facts facts = {
        .api_version = KVM_API_VERSION,
        .loop_ran = true,
        .instructions = 8000000,
        .elapsed = MSEC(8),
    };
    for (size_t i = 0; i < KVM_PROBE_INSTRUCTIONS; i++)
        facts.outcome[i] = KVM_PROBE_WORKS;
    return facts;
}

static struct kvm_probe decide(struct kvm_facts facts)
{
    struct kvm_probe probe;
    kvm_probe_decide(&facts, &probe);
    return probe;
}

static void a_fast_and_complete_kvm_boots_linux(void)
{
    const struct kvm_probe probe = decide(good_facts());
    CU_ASSERT_TRUE(probe.usable);
    CU_ASSERT_TRUE(probe.boots_linux);
    CU_ASSERT_EQUAL(probe.supervisor_per_second, 1000000000);
    CU_ASSERT_PTR_NOT_NULL(strstr(probe.reason, "1000 million"));
}

static void every_missing_instruction_alone_forbids_linux_by_name(void)
{
    static const char *const names[] = {"cmpxchg16b", "xrstor", "int3", "swapgs", "invlpg"};
    for (size_t i = 0; i < KVM_PROBE_INSTRUCTIONS; i++) {
        struct kvm_facts facts = good_facts();
        facts.outcome[i] = i % 2 ? KVM_PROBE_LACKS : KVM_PROBE_FAULTS;
        const struct kvm_probe probe = decide(facts);
        CU_ASSERT_TRUE(probe.usable);
        CU_ASSERT_FALSE(probe.boots_linux);
        CU_ASSERT_PTR_NOT_NULL(strstr(probe.reason, names[i]));
    }
}

static void an_instruction_the_cpu_does_not_have_is_no_obstacle(void)
{
    struct kvm_facts facts = good_facts();
    facts.outcome[KVM_PROBE_XRSTOR] = KVM_PROBE_NOT_RUN;
    CU_ASSERT_TRUE(decide(facts).boots_linux);
}

static void a_slow_kvm_is_usable_but_boots_no_linux(void)
{
    struct kvm_facts facts = good_facts();
    facts.instructions = 8000;
    facts.elapsed = MSEC(5);
    const struct kvm_probe probe = decide(facts);
    CU_ASSERT_TRUE(probe.usable);
    CU_ASSERT_FALSE(probe.boots_linux);
    CU_ASSERT_EQUAL(probe.supervisor_per_second, 1600000);
    CU_ASSERT_PTR_NOT_NULL(strstr(probe.reason, "only 1.6 million"));
}

static void whatever_stops_the_scratch_vm_makes_kvm_unusable(void)
{
    struct kvm_facts facts[6];
    const char *const words[] = {"No such file",  "end",        "API version 11",
                                 "KVM_CAP_XSAVE", "Permission", "does not run"};
    for (size_t i = 0; i < ARRAY_SIZE(facts); i++)
        facts[i] = good_facts();
    facts[0].open_error = ENOENT;
    facts[1].timed_out = true;
    facts[2].api_version = 11;
    facts[3].missing = "KVM_CAP_XSAVE";
    facts[4].vm_error = EACCES;
    facts[5].loop_ran = false;
    for (size_t i = 0; i < ARRAY_SIZE(facts); i++) {
        const struct kvm_probe probe = decide(facts[i]);
        CU_ASSERT_FALSE(probe.usable);
        CU_ASSERT_FALSE(probe.boots_linux);
        CU_ASSERT_EQUAL(probe.supervisor_per_second, 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(probe.reason, words[i]));
    }
}

static void the_kvm_at_hand_gives_one_consistent_answer(void)
{
    struct kvm_probe probe;
    struct error err = {0};
    CU_ASSERT_EQUAL(kvm_probe(&probe, &err), 0);
    printf("%s ... ", probe.reason);
    CU_ASSERT(probe.reason[0] != '\0');
    CU_ASSERT(probe.usable || !probe.boots_linux);
    CU_ASSERT(probe.usable == (probe.supervisor_per_second > 0));
}

static const struct test_case cases[] = {
    {"a fast and complete KVM boots Linux", a_fast_and_complete_kvm_boots_linux},
    {"every missing instruction alone forbids Linux, by name",
     every_missing_instruction_alone_forbids_linux_by_name},
    {"an instruction the CPU does not have is no obstacle",
     an_instruction_the_cpu_does_not_have_is_no_obstacle},
    {"a slow KVM is usable but boots no Linux", a_slow_kvm_is_usable_but_boots_no_linux},
    {"whatever stops the scratch VM makes KVM unusable",
     whatever_stops_the_scratch_vm_makes_kvm_unusable},
    {"the KVM at hand gives one consistent answer", the_kvm_at_hand_gives_one_consistent_answer},
};

TEST_MAIN("probe", cases)

/* What another host's doctor prints: nothing in it goes unchecked, and what was taken comes out of
 * JSON as it went in. */
#include <stdlib.h>
#include <string.h>

#include "app/doctor_facts.h"

static struct doctor_facts facts, again;
static struct doctor_report report;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char reasons[64];
    bool yes;
    char *text = strndup((const char *)data, size);
    if (text && doctor_facts_parse(text, &facts, &yes, reasons, sizeof(reasons), NULL) == 0) {
        json_t *whole = json_pack("{s:o}", "facts", doctor_facts_json(&facts));
        char *printed = json_dumps(whole, 0);
        if (doctor_facts_parse(printed, &again, &yes, reasons, sizeof(reasons), NULL) < 0 ||
            memcmp(&facts, &again, sizeof(facts)) != 0)
            abort();
        report.count = 0;
        doctor_facts_judge(&facts, &again, &report);
        free(printed);
        json_decref(whole);
    }
    free(text);
    return 0;
}

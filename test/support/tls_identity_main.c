/* tls-identity DIRECTORY NAME valid|expired|future: a certificate as a test needs it. */
#include <stdio.h>
#include <string.h>

#include "base/types.h"
#include "test/support/tls_identity.h"

int main(int argc, char **argv)
{
    static const char *const ages[] = {
        [TLS_IDENTITY_VALID] = "valid",
        [TLS_IDENTITY_EXPIRED] = "expired",
        [TLS_IDENTITY_FUTURE] = "future",
    };
    for (size_t i = 0; argc == 4 && i < ARRAY_SIZE(ages); i++)
        if (strcmp(argv[3], ages[i]) == 0) {
            tls_identity_make(argv[1], argv[2], (enum tls_identity_age)i);
            return 0;
        }
    fprintf(stderr, "usage: tls-identity DIRECTORY NAME valid|expired|future\n");
    return 2;
}

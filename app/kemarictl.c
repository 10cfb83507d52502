/* kemarictl: the operator's tool. See docs/man/kemarictl.1. */
#include "control/kemarictl.h"

#include <locale.h>

#include "app/verbs.h"

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    return kemarictl_run(app_verbs, argc, argv, stdout, stderr);
}

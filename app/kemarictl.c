#include "control/kemarictl.h"

int main(int argc, char **argv)
{
    return kemarictl_run(argc, argv, stdout, stderr);
}

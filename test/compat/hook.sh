#!/bin/sh
# hook.sh CHECKOUT LAB ACTION N: stops, starts or restarts swarmd on host mN of a lab
cd "$1" || exit 1
export SWARMD_LAB_DIR="$2"
lab() { npx tsx test/lab/main.ts "$1" "m$2"; }
case $3 in
  down) lab stop "$4" ;;
  up) lab start "$4" ;;
  restart) lab stop "$4" && lab start "$4" ;;
  *) exit 1 ;;
esac

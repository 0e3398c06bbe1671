#!/usr/bin/awk -f
# Sum of the package sizes that a pip log names, downloaded or from pip's cache.
/(Downloading|Using cached) .*\([0-9.]+ [kMG]?B\)/ {
    match($0, /\([0-9.]+ [kMG]?B\)/)
    split(substr($0, RSTART + 1, RLENGTH - 2), part, " ")
    total += part[1] * (part[2] == "GB" ? 1000 : part[2] == "kB" ? 0.001 : part[2] == "B" ? 0.000001 : 1)
}
END { printf "%.0f MB", total }

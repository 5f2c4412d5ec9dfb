#!/bin/sh
# `embedfleet` on a host of a fleet, with the settings and the user of its services. Only root can read their secrets.
# Files that a command is to read must be readable by the user `embedfleet`.
exec systemd-run --quiet --pipe --wait --same-dir --uid embedfleet --gid embedfleet \
    --property StateDirectory=embedfleet --property StateDirectoryMode=0700 \
    --property EnvironmentFile=/etc/embedfleet/secrets.env \
    --setenv EMBEDFLEET_CONFIG=/etc/embedfleet/embeddings_config.yaml \
    --setenv EMBEDFLEET_DATA_DIR=/var/lib/embedfleet --setenv HOME=/var/lib/embedfleet \
    /opt/embedfleet/bin/embedfleet "$@"

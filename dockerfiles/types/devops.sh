# podman and buildah need name spaces and mounts, which no workstation is given: they run on a kernel of their own
# (`own-kernel`). Debian has that for the processors of PCs alone.
containers=
if [ "$(dpkg --print-architecture)" = amd64 ]; then
    containers="buildah crun e2fsprogs iproute2 kmod libslirp-helper podman user-mode-linux"
fi
packages kubernetes-client make openssh-client $containers
programs "ansible-core==$ANSIBLE_CORE_VERSION"
if [ -n "$containers" ]; then
    find /usr/lib/uml/modules -name '*.ko' ! -name overlay.ko -delete
    mkdir -p /var/lib/containers /var/cache/containers /usr/local/lib/own-kernel
    install -m 0755 "$build/own-kernel/own-kernel" /usr/local/bin/own-kernel
    install -m 0755 "$build/own-kernel/init" "$build/own-kernel/with-network" /usr/local/lib/own-kernel/
    install -m 0644 "$build/own-kernel/containers.conf" "$build/own-kernel/storage.conf" /etc/containers/
    for name in buildah podman; do ln -s own-kernel "/usr/local/bin/$name"; done
    echo 'unqualified-search-registries = ["docker.io"]' >/etc/containers/registries.conf.d/docker.conf
fi

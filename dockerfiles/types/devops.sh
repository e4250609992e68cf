packages kubernetes-client make openssh-client
programs "ansible-core==$ANSIBLE_CORE_VERSION"

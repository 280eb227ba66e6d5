# The network of a container that is a proxy (nodectl proxy CONTAINER on), to be done by its root at each start, before
# the proxy. What comes in by eth0 is for this container, also when it is addressed to a client: the answers of services.
# Transparent sockets take them. The proxy's own file is one of this directory, without a change but for addresses.
ip rule add iif eth0 lookup 100
ip route add local default dev lo table 100
ip -6 rule add iif eth0 lookup 100
ip -6 route add local default dev lo table 100

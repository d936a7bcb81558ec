import { openNetlink } from '../netlink/index.ts';
import { addAddress, addLink, addRoute, setLink } from '../netlink/route/index.ts';
import { type NetworkNamespace, writeSysctl } from '../netns/index.ts';
import { type LabDescription, type LabNode, type LabOutside, vethName } from './description.ts';

/** Finds the namespace of a name in the description. */
export type NamespaceOf = (name: string) => NetworkNamespace;

/** The LAN that joins the nodes: a switch in the outside host's namespace, which is a host on it itself. */
export function wireLan({ outside, nodes }: LabDescription, namespaceOf: NamespaceOf): void {
  const namespace = namespaceOf(outside.name);
  using route = openNetlink({ family: 'route', namespace });
  setLink(route, 'lo', { up: true });
  addLink(route, { kind: 'bridge', name: 'lan', up: true });
  addAddress(route, { device: 'lan', ip: outside.ip, prefixLength: outside.prefixLength });
  for (const ip of outside.addresses ?? []) addAddress(route, { device: 'lo', ip, prefixLength: 32 });
  for (const [i, node] of nodes.entries()) {
    const name = `lan${i}`;
    addLink(route, { kind: 'veth', name, master: 'lan', peer: { name: 'eth0', namespace: namespaceOf(node.name) } });
    setLink(route, name, { up: true });
    addNodeToLan(node, outside, namespaceOf(node.name));
    addRoute(route, { destination: node.podRange, gateway: node.ip });
  }
  for (const node of nodes) {
    using inside = openNetlink({ family: 'route', namespace: namespaceOf(node.name) });
    for (const other of nodes) {
      if (other !== node) addRoute(inside, { destination: other.podRange, gateway: other.ip });
    }
  }
}

function addNodeToLan(node: LabNode, outside: LabOutside, namespace: NetworkNamespace): void {
  writeSysctl(namespace, 'net.ipv4.ip_forward', 1);
  using inside = openNetlink({ family: 'route', namespace });
  setLink(inside, 'lo', { up: true });
  setLink(inside, 'eth0', { up: true });
  addAddress(inside, { device: 'eth0', ip: node.ip, prefixLength: outside.prefixLength });
  addRoute(inside, { destination: '0.0.0.0/0', gateway: outside.ip });
}

/** Cables of one node to its proxy and its pods, as a CNI plugin lays them: a /32 each, routed, no bridge. */
export function wireNode(node: LabNode, namespaceOf: NamespaceOf): void {
  using route = openNetlink({ family: 'route', namespace: namespaceOf(node.name) });
  for (const pod of [node.ztunnel, ...node.pods]) {
    const device = vethName(pod);
    const namespace = namespaceOf(pod.name);
    addLink(route, { kind: 'veth', name: device, peer: { name: 'eth0', namespace } });
    using inside = openNetlink({ family: 'route', namespace });
    setLink(inside, 'lo', { up: true });
    setLink(inside, 'eth0', { up: true });
    setLink(route, device, { up: true });
    addAddress(route, { device, ip: node.gateway, prefixLength: 32 });
    addRoute(route, { destination: `${pod.ip}/32`, device, scope: 'link' });
    addAddress(inside, { device: 'eth0', ip: pod.ip, prefixLength: 32 });
    addRoute(inside, { destination: `${node.gateway}/32`, device: 'eth0', scope: 'link' });
    addRoute(inside, { destination: '0.0.0.0/0', gateway: node.gateway });
  }
}

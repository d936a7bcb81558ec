import { DEFAULT_PREFIX, type LabDescription, namespaceName } from '../../lab/index.ts';
import { stateDirectoryPath } from './state-directory.ts';

/** What takes a run away again, as whoever started it would type it. */
export function downCommand(prefix: string): string {
  const demo = process.env.npm_lifecycle_event === 'demo' ? 'npm run demo -- --down' : 'ambient demo --down';
  return prefix === DEFAULT_PREFIX ? demo : `${demo} --prefix ${prefix}`;
}

/**
 * What to type in a mesh that was left running. Needs curl, tcpdump, nft and ip, which the mesh itself does not.
 *
 * @param ownPid - of the demo, where it is in namespaces of its own, which have to be entered and end with it
 */
export function lookAroundText(description: LabDescription, prefix: string, ownPid?: string): string {
  const inside = (name: string) => `ip netns exec ${namespaceName(description, name)}`;
  const service = description.services[0]!;
  const directory = stateDirectoryPath(prefix);
  const lines: readonly (readonly [command: string, shows: string])[] = [
    [`${inside('sleep')} curl http://${service.ip}/`, 'sleep to httpbin, by the ClusterIP'],
    [`${inside('client2')} curl http://${service.ip}/`, 'denied by a policy'],
    [`${inside('node-a')} tcpdump -ni eth0 -A port 15008`, 'the tunnel between the nodes'],
    [`${inside('node-a')} nft list ruleset`, 'the rules of node-a, with counters'],
    [`${inside('node-a')} ip rule`, 'which routing table for which mark'],
    [`${inside('node-a')} ip route show table 101`, 'to the proxy'],
    [`${inside('node-a')} conntrack -L`, 'connections and their marks (528 is 0x210)'],
    [`tail -f ${directory}/ztunnel-a.log`, 'access log of a proxy'],
    [`tail -f ${directory}/node-b.decisions.jsonl`, 'its decisions, with the policy that decided'],
    ...(ownPid === undefined ? [[downCommand(prefix), 'take everything away'] as const] : []),
  ];
  const width = Math.max(...lines.map(([command]) => command.length));
  const shown = lines.map(([command, shows]) => `  ${command.padEnd(width)}  # ${shows}`);
  if (ownPid === undefined) return `The mesh is left running. As root:\n${shown.join('\n')}\n`;
  const enter = `nsenter --target ${ownPid} --user --preserve-credentials --mount --net --pid --wd=/ sh`;
  return `The mesh runs until Ctrl-C. In another terminal, enter it:\n  ${enter}\nand in there:\n${shown.join('\n')}\n`;
}

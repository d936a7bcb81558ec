import { DEFAULT_PREFIX, type LabDescription, type LabMode, namespaceName } from '../../lab/index.ts';
import { podsFileName } from './mesh.ts';
import { stateDirectoryPath } from './state-directory.ts';

/** What takes a run away again, as whoever started it would type it. */
export function downCommand(prefix: string): string {
  const demo = process.env.npm_lifecycle_event === 'demo' ? 'npm run demo -- --down' : 'ambient demo --down';
  return prefix === DEFAULT_PREFIX ? demo : `${demo} --prefix ${prefix}`;
}

type Line = readonly [command: string, shows: string];

/**
 * What to type in a mesh that was left running. Needs curl, tcpdump, nft and ip, which the mesh itself does not.
 *
 * @param ownPid - of the demo, where it is in namespaces of its own, which have to be entered and end with it
 */
export function lookAroundText(description: LabDescription, prefix: string, mode: LabMode, ownPid?: string): string {
  const inside = (name: string) => `ip netns exec ${namespaceName(description, name)}`;
  const service = description.services[0]!;
  const directory = stateDirectoryPath(prefix);
  const lines: readonly Line[] = [
    [`${inside('sleep')} curl http://${service.ip}/`, 'sleep to httpbin, by the ClusterIP'],
    [`${inside('client2')} curl http://${service.ip}/`, 'denied by a policy'],
    // In a user namespace tcpdump finds no user to become, and gives up.
    ...(ownPid === undefined
      ? [[`${inside('node-a')} tcpdump -ni eth0 -A port 15008`, 'the tunnel between the nodes'] as const]
      : []),
    ...(mode === 'node' ? nodeModeLines(inside) : podModeLines(inside, directory)),
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

function nodeModeLines(inside: (name: string) => string): Line[] {
  return [
    [`${inside('node-a')} nft list ruleset`, 'the rules of node-a, with counters'],
    [`${inside('node-a')} ip rule`, 'which routing table for which mark'],
    [`${inside('node-a')} ip route show table 101`, 'to the proxy'],
    [`${inside('node-a')} conntrack -L`, 'connections and their marks (528 is 0x210)'],
  ];
}

function podModeLines(inside: (name: string) => string, directory: string): Line[] {
  return [
    [`${inside('sleep')} nft list ruleset`, 'the rules in the pod, with counters'],
    [`${inside('sleep')} ss -ltne`, 'the proxy’s listeners in the pod'],
    [`${inside('httpbin')} ip rule`, 'the pod’s answers with mark 0x111: table 100'],
    [`${inside('httpbin')} ip route show table 100`, 'back to the proxy'],
    [`${inside('httpbin')} conntrack -L`, 'connections and their marks (273 is 0x111)'],
    [`cat ${directory}/${podsFileName('node-a')}`, 'the pods of a proxy: take one out and it is served no more'],
  ];
}

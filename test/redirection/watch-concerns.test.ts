import { describe, expect, it } from 'vitest';
import { FakeNetlink, type NetlinkMessage } from '../../src/netlink/index.ts';
import { Batch } from '../../src/netlink/nftables/index.ts';
import { addRule } from '../../src/netlink/route/index.ts';
import { nodeMode, podMode } from '../../src/redirection/index.ts';
import { OTHERS, OWN, PARAMETERS } from '../../src/redirection/verify.ts';
import { concernsNetwork, concernsOf, concernsRules } from '../../src/redirection/watch-concerns.ts';

const plan = nodeMode({ hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza' });
const node = concernsOf(plan, 'node');

/** What `send` sends, as it would be announced: requests and notifications have the same form. */
function announced(send: (netlink: FakeNetlink) => void): NetlinkMessage[] {
  const netlink = new FakeNetlink();
  send(netlink);
  return netlink.requests;
}

const rtmsg = (table: number) => Buffer.from([2, 32, 0, 0, table, 0, 0, 1, 0, 0, 0, 0]);
const tableAttribute = (table: number) => {
  const bytes = Buffer.from([8, 0, 15, 0, 0, 0, 0, 0]);
  bytes.writeUInt32LE(table, 4);
  return bytes;
};
const message = (type: number, payload: Buffer): NetlinkMessage => ({ type, flags: 0, seq: 0, payload });

describe('concernsRules', () => {
  it('has what is in the plan’s tables verified, and looks for rules in front where others change theirs', () => {
    const commands = (name: string) => {
      const table = { family: 'ip', name } as const;
      const set = { table, name: 'pods', keyType: 'ipv4_addr' } as const;
      return announced((netlink) =>
        new Batch()
          .addTable(table)
          .addChain({ table, name: 'chain' })
          .addRule({ table, chain: 'chain', expressions: [] })
          .flushChain({ table, name: 'chain' })
          .deleteTable(table)
          .addSet(set)
          .addElements(set, [{ key: '10.0.0.1' }])
          .commit(netlink),
      );
    };
    const ours = commands('ztunnel-mangle');
    expect(ours.map((one) => concernsRules(one, node))).toEqual(ours.map(() => OWN));
    expect(commands('kube-proxy').map((one) => concernsRules(one, node))).toEqual([
      ...[OTHERS, OTHERS, OTHERS, OTHERS, OTHERS],
      // A set, and its members.
      ...[0, 0],
    ]);
  });

  it('passes over NFT_MSG_NEWGEN, which ends every transaction', () => {
    // NFTA_GEN_ID is attribute 1, as the name of a table is.
    const generation = Buffer.from([0, 0, 0, 0, 8, 0, 1, 0, 0, 0, 0, 1]);
    expect(concernsRules(message((10 << 8) | 15, generation), node)).toBe(0);
  });
});

describe('concernsNetwork', () => {
  it('is about routes in the plan’s own tables, by header or attribute', () => {
    const route = (...parts: Buffer[]) => concernsNetwork(message(24, Buffer.concat(parts)), node);
    expect([100, 101, 102, 254, 255].map((table) => route(rtmsg(table)))).toEqual([OWN, OWN, OWN, 0, 0]);
    expect([route(rtmsg(0), tableAttribute(100)), route(rtmsg(252), tableAttribute(1000))]).toEqual([OWN, 0]);
    expect(concernsNetwork(message(25, rtmsg(100)), node)).toBe(OWN);
  });

  it('is about the plan’s links at either end, policy rules, addresses and parameters, and not about neighbours', () => {
    const link = (name: string) =>
      message(
        17,
        Buffer.concat([Buffer.alloc(16), Buffer.from([4 + name.length + 1, 0, 3, 0]), Buffer.from(`${name}\0`)]),
      );
    expect(concernsNetwork(link('istioin'), node)).toBe(OWN);
    expect(concernsNetwork(link('eth0'), node)).toBe(0);
    expect(concernsNetwork(link('pistioin'), concernsOf(plan, 'ztunnel'))).toBe(OWN);
    const [rule] = announced((netlink) => addRule(netlink, { family: 4, priority: 5, table: 5 }));
    expect(concernsNetwork(rule!, node)).toBe(OWN | OTHERS);
    expect(concernsNetwork(message(28, Buffer.alloc(12)), node)).toBe(0);
    // RTM_NEWNETCONF and RTM_DELNETCONF, of a device that went.
    expect(concernsNetwork(message(80, Buffer.from([2])), node)).toBe(PARAMETERS);
    expect(concernsNetwork(message(81, Buffer.from([2])), node)).toBe(OWN | PARAMETERS);
  });

  it('knows the tables of both families in a pod', () => {
    const pod = concernsOf(podMode(), 'pod');
    expect([...pod.tables].sort()).toContain('istio-ambient-nat');
    expect([...pod.routeTables]).toEqual([100]);
  });
});

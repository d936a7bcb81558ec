import { describe, expect, it } from 'vitest';
import { FakeNetlink, openNetlink, readMessages } from '../../../src/netlink/index.ts';
import { RTM_DELNEIGH, RTM_NEWNEIGH } from '../../../src/netlink/route/constants.ts';
import {
  addLink,
  addNeighbour,
  deleteNeighbour,
  listNeighbours,
  type Neighbour,
  replaceNeighbour,
  setLink,
} from '../../../src/netlink/route/index.ts';
import { decodeNeighbour, encodeNeighbour } from '../../../src/netlink/route/neighbour.ts';
import { runIn, withNamespaces } from '../../support/namespaces.ts';
import { describeRequiring } from '../../support/require.ts';
import { hex, shapeOf } from '../golden.ts';

describe('encodeNeighbour, against the traffic of ip 6.1', () => {
  it.each<[string, number, number, Neighbour, string]>([
    [
      'ip neigh add 10.1.0.7 lladdr 02:00:00:00:00:07 dev v0',
      RTM_NEWNEIGH,
      0x600,
      { device: 'v0', ip: '10.1.0.7', address: '02:00:00:00:00:07' },
      '300000001c0005064838026b00000000 020000000300000080000000 080001000a010007 0a0002000200000000070000',
    ],
    [
      'ip neigh replace fd00::7 lladdr 02:00:00:00:00:07 dev v0 nud stale router',
      RTM_NEWNEIGH,
      0x500,
      { device: 'v0', ip: 'fd00::7', address: '02:00:00:00:00:07', state: 'stale', router: true },
      `3c0000001c0005054838026b00000000 0a0000000300000004008000
       14000100fd000000000000000000000000000007 0a0002000200000000070000`,
    ],
    [
      'ip neigh add proxy 10.1.0.8 dev v0',
      RTM_NEWNEIGH,
      0x600,
      { device: 'v0', ip: '10.1.0.8', proxy: true },
      '240000001c0005064838026b00000000 020000000300000080000800 080001000a010008',
    ],
    [
      'ip neigh del 10.1.0.7 dev v0',
      RTM_DELNEIGH,
      0,
      { device: 'v0', ip: '10.1.0.7' },
      '240000001d0005004838026b00000000 020000000300000080000000 080001000a010007',
    ],
  ])('%s', (_, type, flags, neighbour, golden) => {
    expect(shapeOf(encodeNeighbour(type, flags, neighbour, 3, 'test'), 12)).toEqual(shapeOf(hex(golden), 12));
  });

  it.each<[string, Partial<Neighbour>]>([
    ['ip', { ip: '10.1.0.7/32' }],
    ['address', { address: '02:00' }],
    ['state', { state: 'asleep' as 'stale' }],
    ['device', { device: 'a/b' }],
  ])('names the field at fault: %s', (field, wrong) => {
    const fake = new FakeNetlink((request) =>
      request.type === 18 ? [{ type: 16, payload: Buffer.alloc(16) }] : undefined,
    );
    const neighbour = { device: 'v0', ip: '10.1.0.7', address: '02:00:00:00:00:07', ...wrong };
    expect(() => addNeighbour(fake, neighbour)).toThrow(
      expect.objectContaining({ name: expect.stringMatching(/^Invalid/), field }),
    );
    expect(fake.requests.filter(({ type }) => type === RTM_NEWNEIGH)).toEqual([]);
  });

  it('asks for the hardware address of a neighbour that is said to be known', () => {
    const neighbour: Neighbour = { device: 'v0', ip: '10.1.0.7' };
    expect(() => encodeNeighbour(RTM_NEWNEIGH, 0, neighbour, 3, 'test')).toThrow(
      expect.objectContaining({ code: 'ERR_NETLINK_INVALID', field: 'address' }),
    );
  });
});

describe('decodeNeighbour, of what the kernel answered to ip neigh', () => {
  const names = new Map([
    [2, 'v1'],
    [3, 'v0'],
  ]);
  const decode = (bytes: string) => decodeNeighbour(readMessages(hex(bytes))[0]!.payload, names);

  it('ff02::16 dev v1 lladdr 33:33:00:00:00:16 NOARP', () => {
    const bytes = `580000001c0002004838026b3c4e0000 0a0000000200000040000005 14000100ff020000000000000000000000000016
      0a0002003333000000160000 0800040000000000 1400030086170000160000001600000000000000`;
    expect(decode(bytes)).toEqual({
      family: 6,
      device: 'v1',
      ip: 'ff02::16',
      address: '33:33:00:00:00:16',
      state: 'noarp',
    });
  });

  it('10.1.0.8 dev v0 proxy', () => {
    const bytes = '240000001c0002004838026b404e0000 020000000300000000000801 080001000a010008';
    expect(decode(bytes)).toEqual({ family: 4, device: 'v0', ip: '10.1.0.8', state: 'none', proxy: true });
  });
});

interface IpNeighbour {
  dst: string;
  dev: string;
  lladdr?: string;
  state?: string[];
}

describeRequiring('neighbours in the kernel', { root: true, tools: ['ip'] }, () => {
  async function withDevice(
    body: (netlink: ReturnType<typeof openNetlink>, ip: (...args: string[]) => string) => void,
  ): Promise<void> {
    await withNamespaces(['a'], (a) => {
      using netlink = openNetlink({ family: 'route', namespace: a });
      addLink(netlink, { kind: 'veth', name: 'v0', up: true, peer: { name: 'v1' } });
      setLink(netlink, 'v1', { up: true });
      body(netlink, (...args) => runIn(a, 'ip', ...args));
    });
  }

  it('added here are what ip -j reads', async () => {
    await withDevice((netlink, ip) => {
      addNeighbour(netlink, { device: 'v0', ip: '10.1.0.7', address: '02:00:00:00:00:07' });
      addNeighbour(netlink, { device: 'v0', ip: 'fd00::7', address: '02:00:00:00:00:08', state: 'stale' });
      addNeighbour(netlink, { device: 'v0', ip: '10.1.0.8', proxy: true });
      replaceNeighbour(netlink, { device: 'v0', ip: '10.1.0.7', address: '02:00:00:00:00:09' });
      const neighbours = JSON.parse(ip('-j', 'neigh')) as IpNeighbour[];
      expect(neighbours.sort((x, y) => x.dst.localeCompare(y.dst))).toMatchObject([
        { dst: '10.1.0.7', dev: 'v0', lladdr: '02:00:00:00:00:09', state: ['PERMANENT'] },
        { dst: 'fd00::7', dev: 'v0', lladdr: '02:00:00:00:00:08', state: ['STALE'] },
      ]);
      expect(JSON.parse(ip('-j', 'neigh', 'show', 'proxy'))).toMatchObject([{ dst: '10.1.0.8', dev: 'v0' }]);
    });
  });

  it('added by ip are listed here, and what is listed can be deleted and added again', async () => {
    await withDevice((netlink, ip) => {
      ip('neigh', 'add', '10.1.0.7', 'lladdr', '02:00:00:00:00:07', 'dev', 'v0');
      ip('neigh', 'add', 'fd00::7', 'lladdr', '02:00:00:00:00:07', 'dev', 'v1', 'nud', 'stale', 'router');
      ip('neigh', 'add', 'proxy', '10.1.0.8', 'dev', 'v0');
      const mine = () => listNeighbours(netlink).filter(({ state }) => state !== 'noarp');
      const neighbours = mine();
      expect(neighbours).toEqual([
        { family: 4, device: 'v0', ip: '10.1.0.7', address: '02:00:00:00:00:07', state: 'permanent' },
        { family: 6, device: 'v1', ip: 'fd00::7', address: '02:00:00:00:00:07', state: 'stale', router: true },
      ]);
      const proxies = listNeighbours(netlink, { proxy: true });
      expect(proxies).toEqual([{ family: 4, device: 'v0', ip: '10.1.0.8', state: 'none', proxy: true }]);
      expect(listNeighbours(netlink, { device: 'v1' }).map(({ device }) => device)).toContain('v1');
      expect(listNeighbours(netlink, { family: 4 })).toEqual(neighbours.slice(0, 1));
      for (const each of [...neighbours, ...proxies]) deleteNeighbour(netlink, each);
      expect([
        ...mine().filter(({ state }) => state !== 'failed'),
        ...listNeighbours(netlink, { proxy: true }),
      ]).toEqual([]);
      for (const each of [...neighbours, ...proxies]) replaceNeighbour(netlink, each);
      expect([...mine(), ...listNeighbours(netlink, { proxy: true })]).toEqual([...neighbours, ...proxies]);
    });
  });

  it('twice: EEXIST; none: ENOENT unless missingOk', async () => {
    await withDevice((netlink) => {
      const neighbour = { device: 'v0', ip: '10.1.0.7', address: '02:00:00:00:00:07' };
      addNeighbour(netlink, neighbour);
      expect(() => addNeighbour(netlink, neighbour)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
      const missing = { device: 'v0', ip: '10.1.0.99' };
      expect(() => deleteNeighbour(netlink, missing)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
      deleteNeighbour(netlink, missing, { missingOk: true });
    });
  });
});

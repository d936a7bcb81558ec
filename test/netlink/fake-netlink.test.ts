import { describe, expect, it } from 'vitest';
import { FakeNetlink, MessageWriter, NLM_F_DUMP } from '../../src/netlink/index.ts';
import { listLinks } from '../../src/netlink/route/index.ts';

const batch = () => {
  const writer = new MessageWriter();
  writer.begin(16, 0).u32(0).end();
  for (const name of ['one', 'two', 'three']) writer.begin(0xa00, 0).u32(2).attrString(1, name).end();
  return writer.begin(17, 0).u32(0).end().finish();
};

describe('FakeNetlink', () => {
  it('records what it is asked and answers from its script', () => {
    const link = new MessageWriter().begin(16, 0).u32(0).s32(7).u32(1).u32(0).attrString(3, 'eth0').end().finish();
    const fake = new FakeNetlink((request) =>
      request.type === 18 ? [{ type: 16, payload: Buffer.from(link.subarray(16)) }] : undefined,
    );
    expect(listLinks(fake)).toMatchObject([{ name: 'eth0', index: 7, up: true, kind: 'other' }]);
    expect(fake.requests).toMatchObject([{ type: 18, op: 'route.listLinks', index: undefined }]);
    expect(fake.requests[0]!.flags & NLM_F_DUMP).toBe(NLM_F_DUMP);
  });

  it('refuses the message of a batch that its script refuses, with the index that the kernel would give', () => {
    const fake = new FakeNetlink((request) => (request.payload.includes('two') ? 17 : undefined));
    expect(() => fake.batch(batch(), { op: 'test.batch' })).toThrow(
      expect.objectContaining({ code: 'EEXIST', errno: 17, index: 2, op: 'test.batch' }),
    );
    expect(fake.requests.map(({ index }) => index)).toEqual([1, 2]);
  });

  it('keeps the bytes of a request, whatever becomes of its writer', () => {
    const fake = new FakeNetlink();
    const bytes = batch();
    fake.batch(bytes);
    bytes.fill(0);
    expect(fake.requests.map(({ payload }) => payload.toString('latin1', 8, 11))).toEqual(['one', 'two', 'thr']);
  });

  it('is closed like the real one', () => {
    const fake = new FakeNetlink();
    fake.close();
    fake.close();
    const message = new MessageWriter().begin(18, 0).end().finish();
    expect(() => fake.request(message)).toThrow(expect.objectContaining({ code: 'ERR_NETLINK_CLOSED' }));
  });
});

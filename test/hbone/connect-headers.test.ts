import { describe, expect, it } from 'vitest';
import { type HeadersInput, meshHeaderFields } from '../../src/hbone/connect-headers.ts';

describe('meshHeaderFields', () => {
  it('facts section 1.2: baggage, forwarded, traceparent, then others', () => {
    const fields = meshHeaderFields('op', {
      headers: { 'x-forwarded-network': 'n1' },
      traceParent: { traceId: '0af7651916cd43dd8448eb211c80319c', parentId: 'b7ad6b7169203331', flags: '00' },
      forwarded: { source: { ip: 'fd00::5', port: 41000 }, host: 'httpbin.default.svc' },
      baggage: { namespace: 'default', workloadName: 'sleep' },
    });
    expect(fields).toEqual([
      ['baggage', 'k8s.namespace.name=default,k8s.pod.name=sleep'],
      ['forwarded', 'for="[fd00::5]:41000";host=httpbin.default.svc'],
      ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00'],
      ['x-forwarded-network', 'n1'],
    ]);
  });

  it('leaves out what is not given, and baggage that says nothing', () => {
    expect(meshHeaderFields('op', { baggage: {} })).toEqual([]);
  });

  it.each<[HeadersInput, string]>([
    [
      [
        ['ok', ''],
        ['Upper', 'x'],
      ],
      'headers[1]',
    ],
    [{ ':path': '/' }, 'headers.:path'],
    [{ 'a b': 'x' }, 'headers.a b'],
    [{ '': 'x' }, 'headers.'],
    [{ connection: 'close' }, 'headers.connection'],
    [{ 'transfer-encoding': 'chunked' }, 'headers.transfer-encoding'],
    [{ a: 'x\r\ny: z' }, 'headers.a'],
    [{ a: ' x' }, 'headers.a'],
    [{ a: 'x\t' }, 'headers.a'],
    [{ a: 'x\u0000' }, 'headers.a'],
    [{ a: '€' }, 'headers.a'],
  ])('RFC 9113 section 8.2: refuses %j', (headers, field) => {
    expect(() => meshHeaderFields('op', { headers })).toThrow(
      expect.objectContaining({ code: 'ERR_HBONE_INVALID', field }),
    );
  });

  it.each(['', 'x', 'x y', 'é', 'a\tb'])('takes the value %j', (value) => {
    expect(meshHeaderFields('op', { headers: { a: value } })).toEqual([['a', value]]);
  });
});

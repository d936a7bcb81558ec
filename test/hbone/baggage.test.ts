import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Baggage, formatBaggage, parseBaggage } from '../../src/hbone/baggage.ts';

const full: Baggage = {
  clusterName: 'Kubernetes',
  namespace: 'default',
  workloadName: 'httpbin',
  workloadType: 'deployment',
  serviceName: 'httpbin',
  serviceVersion: 'v1',
  region: 'r1',
  zone: 'z1',
};
const fullText =
  'k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=httpbin,' +
  'service.name=httpbin,service.version=v1,cloud.region=r1,cloud.availability_zone=z1';

describe('formatBaggage (facts section 1.4)', () => {
  it('writes all of it in the order of the wire', () => {
    expect(formatBaggage(full)).toBe(fullText);
  });

  it('leaves out what is empty', () => {
    expect(formatBaggage({})).toBe('');
    expect(formatBaggage({ clusterName: '', namespace: 'default', zone: '' })).toBe('k8s.namespace.name=default');
  });

  it('leaves out what would not come back, and never breaks the header', () => {
    for (const name of ['a,b', 'a=b', 'a b', 'a\r\nx: y', 'é', '\u0000']) {
      expect(formatBaggage({ namespace: name, zone: 'z' })).toBe('cloud.availability_zone=z');
    }
  });
});

describe('parseBaggage (facts section 1.4)', () => {
  it('reads what was written, also over several header lines', () => {
    expect(parseBaggage([fullText])).toEqual(full);
    expect(parseBaggage(fullText.split(','))).toEqual(full);
    expect(parseBaggage([])).toEqual({});
    expect(parseBaggage([''])).toEqual({});
  });

  it.each(['deployment', 'cronjob', 'pod', 'job'] as const)('takes the workload name from k8s.%s.name', (type) => {
    expect(parseBaggage([`k8s.${type}.name=w`])).toEqual({ workloadName: 'w', workloadType: type });
  });

  it.each([
    ['an empty value', 'service.name=', {}],
    ['a key alone', 'service.name', {}],
    ['an unknown key', 'k8s.statefulset.name=x,foo=bar', {}],
    ['what follows a second =', 'service.name=a=b', { serviceName: 'a' }],
    ['the last of two', 'service.name=a,service.name=b', { serviceName: 'b' }],
    ['white space around', ' service.name = a ,\tcloud.region=r', { serviceName: 'a', region: 'r' }],
    ['names every object has', '__proto__=x,constructor=y,toString=z', {}],
  ])('%s', (_what, line, expected) => {
    expect(parseBaggage([line])).toEqual(expected);
  });

  it('ignores the whole when a byte is outside visible ASCII', () => {
    expect(parseBaggage(['service.name=a', 'cloud.region=\u00e9'])).toEqual({});
    expect(parseBaggage(['service.name=a\u0000'])).toEqual({});
  });

  const name = fc.stringMatching(/^[!-+\--<>-~]{1,20}$/);
  it('property: formatted baggage reads back', () => {
    const record = fc.record(
      {
        clusterName: name,
        namespace: name,
        serviceName: name,
        serviceVersion: name,
        region: name,
        zone: name,
      },
      { requiredKeys: [] },
    );
    const workload = fc.record({
      workloadName: name,
      workloadType: fc.constantFrom('deployment', 'cronjob', 'pod', 'job'),
    });
    fc.assert(
      fc.property(record, fc.option(workload, { nil: {} }), (some, named) => {
        const baggage = { ...some, ...named } as Baggage;
        expect(parseBaggage([formatBaggage(baggage)])).toEqual(baggage);
      }),
    );
  });

  it('property: any name gives a line that is one header value and reads as that name or not at all', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (namespace) => {
        const line = formatBaggage({ namespace });
        expect(line).toMatch(/^[\x21-\x7e]*$/);
        expect([undefined, namespace]).toContain(parseBaggage([line]).namespace);
      }),
    );
  });

  it('property: any lines are read without a throw', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 80 }), { maxLength: 5 }), (lines) => {
        for (const value of Object.values(parseBaggage(lines))) expect(value).toMatch(/^[\x20-\x7e\t]+$/);
      }),
    );
  });
});

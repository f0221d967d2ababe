/**
 * Holds the generated descriptors against the facts about containerd's API in proto/facts, in both directions: both sides are brought
 * into one shape, a list of sentences, so that whatever is missing, extra or different shows by name.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { DescEnum, DescField, DescFile, DescMessage, DescService } from '@bufbuild/protobuf'
import { getOption, hasOption, ScalarType } from '@bufbuild/protobuf'
import { FieldDescriptorProto_Label } from '@bufbuild/protobuf/wkt'
import { expect, test } from 'vitest'
import { fieldpath, fieldpath_all } from './gen/containerd/types/fieldpath_pb.ts'

interface FactMessage {
  fields: [name: string, number: number, label: string, type: string][]
  reserved?: [from: number, to: number][]
  messages?: Record<string, FactMessage>
  fieldpath?: true
}
interface FactFile {
  file: string
  package: string
  fieldpath?: true
  extensions?: [name: string, number: number, extendee: string, type: string][]
  services?: Record<string, [name: string, request: string, response: string, kind: string][]>
  messages: Record<string, FactMessage>
  enums?: Record<string, [name: string, number: number][]>
}

const facts = JSON.parse(
  readFileSync(resolve(import.meta.dirname, '../../proto/facts/containerd-api.json'), 'utf8'),
) as { files: FactFile[] }
const generated = await generatedFiles(join(import.meta.dirname, 'gen/containerd'))

test('there is one generated file for each file of the facts', () => {
  expect(generated.map((file) => file.name).sort()).toEqual(
    facts.files.map(({ file }) => `containerd/${file.replace(/\.proto$/, '')}`).sort(),
  )
})

test.each(facts.files.map((fact) => [fact.file, fact] as const))(
  '%s is on the wire what containerd has',
  (name, fact) => {
    const file = generated.find((candidate) => candidate.name === `containerd/${name.replace(/\.proto$/, '')}`)

    expect(file && linesOfFile(file)).toEqual(linesOfFact(fact))
  },
)

test('the facts are whole', () => {
  const lines = facts.files.flatMap(linesOfFact)
  const count = (kind: string) => lines.filter((line) => line.startsWith(`${kind} `)).length

  expect({
    files: facts.files.length,
    services: count('service'),
    methods: count('method'),
    messages: count('message'),
    enums: count('enum'),
    fields: count('field'),
  }).toEqual({ files: 46, services: 20, methods: 132, messages: 327, enums: 7, fields: 927 })
})

async function generatedFiles(folder: string): Promise<DescFile[]> {
  const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('_pb.ts'))
  const modules = await Promise.all(paths.map((path) => import(join(folder, path)) as Promise<Record<string, unknown>>))
  const exported = modules.flatMap((module) => Object.entries(module))
  return exported.filter(([name]) => name.startsWith('file_')).map(([, file]) => file as DescFile)
}

function linesOfFact(fact: FactFile): string[] {
  const message = (name: string, { fields, reserved = [], messages = {}, fieldpath: open }: FactMessage): string[] => [
    `message ${name}${open ? ' fieldpath' : ''}`,
    ...fields.map(([field, number, label, type]) => `field ${name}.${field} = ${number} ${label} ${type}`),
    ...reserved.map(([from, to]) => `reserved ${name} ${from}-${to}`),
    ...Object.entries(messages).flatMap(([inner, of]) => message(`${name}.${inner}`, of)),
  ]
  const { package: pkg, services = {}, messages, enums = {}, extensions = [] } = fact
  return [
    `package ${pkg} proto3${fact.fieldpath ? ' fieldpath' : ''}`,
    ...extensions.map(([name, number, extendee, type]) => `extension ${name} = ${number} of ${extendee} ${type}`),
    ...Object.entries(services).flatMap(([service, methods]) => [
      `service ${pkg}.${service}`,
      ...methods.map(
        ([name, request, response, kind]) => `method ${pkg}.${service}/${name} ${kind} ${request} ${response}`,
      ),
    ]),
    ...Object.entries(messages).flatMap(([name, of]) => message(`${pkg}.${name}`, of)),
    ...Object.entries(enums).flatMap(([name, values]) => [
      `enum ${pkg}.${name}`,
      ...values.map(([value, number]) => `value ${pkg}.${name}.${value} = ${number}`),
    ]),
  ].sort()
}

function linesOfFile(file: DescFile): string[] {
  const open = hasOption(file, fieldpath_all) && getOption(file, fieldpath_all)
  return [
    `package ${file.proto.package} ${file.proto.syntax}${open ? ' fieldpath' : ''}`,
    ...file.extensions.map((it) => `extension ${it.name} = ${it.number} of ${it.extendee.typeName} ${typeOf(it)}`),
    ...file.services.flatMap(linesOfService),
    ...file.messages.flatMap(linesOfMessage),
    ...file.enums.flatMap(linesOfEnum),
  ].sort()
}

function linesOfService(service: DescService): string[] {
  return [
    `service ${service.typeName}`,
    ...service.methods.map(({ name, methodKind, input, output }) => {
      return `method ${service.typeName}/${name} ${methodKind} ${input.typeName} ${output.typeName}`
    }),
  ]
}

function linesOfMessage(message: DescMessage): string[] {
  const { typeName: name, proto, fields, nestedMessages, nestedEnums, oneofs } = message
  const open = hasOption(message, fieldpath) && getOption(message, fieldpath)
  return [
    `message ${name}${open ? ' fieldpath' : ''}`,
    ...fields.map((field) => `field ${name}.${field.name} = ${field.number} ${labelOf(field)} ${typeOf(field)}`),
    // on the wire of descriptors the end is one past the last
    ...proto.reservedRange.map(({ start, end }) => `reserved ${name} ${start}-${end - 1}`),
    ...oneofs.map((oneof) => `oneof ${name}.${oneof.name}`), // the API has none, so any is extra
    ...nestedMessages.flatMap(linesOfMessage),
    ...nestedEnums.flatMap(linesOfEnum),
  ]
}

function linesOfEnum(desc: DescEnum): string[] {
  return [
    `enum ${desc.typeName}`,
    ...desc.values.map(({ name, number }) => `value ${desc.typeName}.${name} = ${number}`),
  ]
}

function labelOf(field: DescField): string {
  if (field.fieldKind === 'map') return 'map'
  if (field.proto.label === FieldDescriptorProto_Label.REPEATED) return 'repeated'
  return field.proto.proto3Optional ? 'optional' : 'singular'
}

function typeOf(field: DescFile['extensions'][number] | DescField): string {
  if (field.fieldKind === 'map') return `${scalar(field.mapKey)},${elementOf(field.mapKind, field)}`
  if (field.fieldKind === 'list') return elementOf(field.listKind, field)
  return elementOf(field.fieldKind, field)
}

function elementOf(
  kind: 'scalar' | 'message' | 'enum',
  { scalar: type, message, enum: desc }: Pick<DescField, 'scalar' | 'message' | 'enum'>,
): string {
  if (kind === 'scalar') return scalar(type)
  return (kind === 'message' ? message?.typeName : desc?.typeName) ?? 'unknown'
}

function scalar(type: ScalarType | undefined): string {
  return type === undefined ? 'unknown' : ScalarType[type].toLowerCase()
}

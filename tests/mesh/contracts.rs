//! What the contracts say, decoded from the descriptor set, and not taken from the table that the charts are made from.

use std::path::Path;
use std::sync::LazyLock;

pub(crate) use flaghoist_mesh::served::{Class, SERVICES};
use flaghoist_proto::DESCRIPTORS;
use flaghoist_tests::mesh::{TABLE_PATH, table};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

/// A method and what the contracts say about it.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) path: String,
    /// The service that offers it.
    pub(crate) owner: String,
    pub(crate) audience: Audience,
    pub(crate) class: Class,
}

/// Who may call a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    Anyone,
    User,
    Admin,
    Services(Vec<String>),
}

impl Method {
    pub(crate) fn internal(&self) -> bool {
        matches!(self.audience, Audience::Services(_))
    }

    /// The port on which it is offered.
    pub(crate) fn port(&self) -> u16 {
        if self.internal() { 9001 } else { 9000 }
    }
}

/// Every method of flaghoist.
pub(crate) fn methods() -> &'static [Method] {
    static METHODS: LazyLock<Vec<Method>> = LazyLock::new(decode);
    &METHODS
}

fn decode() -> Vec<Method> {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("the descriptors can be decoded");
    let ours = pool.services().filter(|service| service.package_name().starts_with("flaghoist."));
    ours.flat_map(|service| service.methods().map(|method| read(&pool, &method)).collect::<Vec<_>>()).collect()
}

fn read(pool: &DescriptorPool, method: &MethodDescriptor) -> Method {
    let service = method.parent_service();
    let idempotency =
        method.method_descriptor_proto().options.as_ref().map_or(0, |options| i32::from(options.idempotency_level()));
    Method {
        path: format!("/{}/{}", service.full_name(), method.name()),
        owner: service.package_name().split('.').nth(1).expect("flaghoist.SERVICE.VERSION").to_owned(),
        audience: audience(pool, method),
        class: match (method.is_client_streaming() || method.is_server_streaming(), idempotency) {
            (true, _) => Class::Stream,
            (false, 0) => Class::Once,
            (false, _) => Class::Retried,
        },
    }
}

fn audience(pool: &DescriptorPool, method: &MethodDescriptor) -> Audience {
    let access = pool.get_extension_by_name("flaghoist.options.v1.access").expect("the option is there");
    let options = method.options();
    assert!(options.has_extension(&access), "{} says not who may call it", method.full_name());
    let rule: &DynamicMessage = &options.get_extension(&access).as_message().expect("a message").clone();
    let number = rule.get_field_by_name("audience").and_then(|value| value.as_enum_number());
    let callers = match rule.get_field_by_name("callers").as_deref() {
        Some(Value::List(names)) => names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    match number {
        Some(1) => Audience::Anyone,
        Some(2) => Audience::User,
        Some(3) => Audience::Admin,
        Some(4) if !callers.is_empty() => Audience::Services(callers),
        other => panic!("{}: audience {other:?} of {callers:?}", method.full_name()),
    }
}

/// Whether the contracts let `caller` call any internal method of `callee`.
pub(crate) fn may_call(methods: &[Method], caller: &str, callee: &str) -> bool {
    methods.iter().filter(|method| method.owner == callee).any(|method| match &method.audience {
        Audience::Services(callers) => callers.iter().any(|named| named == caller),
        _ => false,
    })
}

#[test]
fn the_table_that_policies_are_made_from_is_what_the_contracts_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(TABLE_PATH);
    let written = std::fs::read_to_string(&path).expect("the table is there");
    assert!(written == table(), "{TABLE_PATH} is not what the contracts say: run `make mesh` and read what changed");
}

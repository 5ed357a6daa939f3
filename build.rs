//! Turns `proto/` into Rust: messages, clients, servers, field checks, the encoded descriptor set that reflection serves,
//! and the table of methods with the access rule of each.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

#[path = "proto/build/checks.rs"]
mod checks;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed=proto");

    let mut files = Vec::new();
    contracts(Path::new("proto/flaghoist"), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new(["proto", "proto/third_party"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;
    // The encoded form keeps the extensions (our access option) that the decoded struct drops.
    let encoded = compiler.encode_file_descriptor_set();
    let encoded_path = out.join("descriptors.binpb");
    fs::write(&encoded_path, &encoded)?;

    let mut config = tonic_prost_build::Config::new();
    config.btree_map(["."]);
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .codec_path("crate::codec::SmallBuffers")
        .extern_path(".buf.validate", "()")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    let pool = DescriptorPool::decode(encoded.as_slice())?;
    fs::write(out.join("checks.rs"), checks::generate(&pool)?)?;
    fs::write(out.join("methods.rs"), methods(&pool)?)?;
    Ok(())
}

/// Collects the `.proto` files below `folder`, as paths below `proto/`.
fn contracts(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            contracts(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path.strip_prefix("proto")?.to_owned());
        }
    }
    Ok(())
}

/// The Rust source of the table of methods.
fn methods(pool: &DescriptorPool) -> Result<String, Error> {
    let mut table = String::from("&[\n");
    for service in pool.services().filter(|service| service.package_name().starts_with("flaghoist.")) {
        for method in service.methods() {
            let access = access(pool, &method)?;
            let idempotency: i32 = method
                .method_descriptor_proto()
                .options
                .as_ref()
                .map_or(0, |options| options.idempotency_level().into());
            writeln!(
                table,
                "    Method {{ path: \"/{}/{}\", service: \"{}\", access: {access}, safe: {}, repeatable: {}, streaming: {} }},",
                service.full_name(),
                method.name(),
                service.full_name(),
                idempotency == 1,
                idempotency > 0,
                method.is_client_streaming() || method.is_server_streaming(),
            )?;
        }
    }
    table.push(']');
    Ok(table)
}

/// The Rust expression for the access rule of `method`, or an error if it has none.
fn access(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<String, Error> {
    let extension = pool.get_extension_by_name("flaghoist.options.v1.access").ok_or("the access option is gone")?;
    let options = method.options();
    let rule = options.get_extension(&extension);
    let rule: &DynamicMessage = rule.as_message().ok_or("the access option is no message")?;
    let audience = match rule.get_field_by_name("audience").as_deref() {
        Some(Value::EnumNumber(number)) => *number,
        _ => 0,
    };
    let callers: Vec<String> = match rule.get_field_by_name("callers").as_deref() {
        Some(Value::List(names)) => names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    match (audience, callers.is_empty()) {
        (1, true) => Ok("Access::Anyone".into()),
        (2, true) => Ok("Access::User".into()),
        (3, true) => Ok("Access::Admin".into()),
        (4, false) => Ok(format!("Access::Service(&{callers:?})")),
        _ => {
            Err(format!("{} needs an access rule, with callers exactly when it is for services", method.full_name())
                .into())
        }
    }
}

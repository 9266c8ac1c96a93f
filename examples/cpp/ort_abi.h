// What explain.cpp needs of ONNX Runtime's C API, by its binary interface, for where its headers are not at hand.
//
// OrtGetApiBase()->GetApi(version) returns a table of function pointers. New ones are only ever added at its end, so
// that a function keeps its place: ONNX Runtime promises this, and asserts it when it is compiled. Nothing but these
// places and signatures is written down here. A program that has the headers includes onnxruntime_c_api.h and does not
// need this file.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

// Objects that only ONNX Runtime looks into.
struct Allocator;
struct Env;
struct MemoryInfo;
struct ModelMetadata;
struct Session;
struct SessionOptions;
struct Status;  // an error; a null pointer is success
struct TensorInfo;
struct TypeInfo;
struct Value;

// Numbers of its enumerations.
constexpr int code_fail = 1;   // OrtErrorCode
constexpr int log_fatal = 4;   // OrtLoggingLevel: errors are returned, and need not be printed as well
constexpr int type_float = 1;  // ONNXTensorElementDataType, from here on
constexpr int type_uint8 = 2;
constexpr int type_int32 = 6;
constexpr int device_allocator = 0;  // OrtAllocatorType
constexpr int default_memory = 0;    // OrtMemType

using Function = void (*)();
using Table = const Function*;

struct ApiBase {
  Table (*get_api)(std::uint32_t version);  // null: the library does not have this version
  const char* (*get_version)();             // such as "1.32.0"
};

/// A function's place in the table, and its signature.
template <class Signature>
struct Member {
  std::size_t place;

  Signature* in(Table table) const { return reinterpret_cast<Signature*>(table[place]); }
};

/// The first version of the API that has all members below. Which models a library opens, it says itself.
constexpr std::uint32_t api_version = 2;

constexpr Member<Status*(int code, const char* message)> create_status{0};
constexpr Member<int(const Status*)> get_error_code{1};
constexpr Member<const char*(const Status*)> get_error_message{2};
constexpr Member<Status*(int level, const char* name, Env**)> create_env{3};
constexpr Member<Status*(const Env*, const char* path, const SessionOptions*, Session**)> create_session{7};
constexpr Member<Status*(Session*, const void* options, const char* const* input_names, const Value* const* inputs,
                         std::size_t input_count, const char* const* output_names, std::size_t output_count,
                         Value** outputs)>
    run{9};
constexpr Member<Status*(SessionOptions**)> create_session_options{10};
constexpr Member<Status*(SessionOptions*, int threads)> set_intra_op_num_threads{24};
constexpr Member<Status*(const Session*, std::size_t*)> session_get_input_count{30};
constexpr Member<Status*(const Session*, std::size_t*)> session_get_output_count{31};
constexpr Member<Status*(const Session*, std::size_t index, TypeInfo**)> session_get_input_type_info{33};
constexpr Member<Status*(const Session*, std::size_t index, Allocator*, char** name)> session_get_input_name{36};
constexpr Member<Status*(const Session*, std::size_t index, Allocator*, char** name)> session_get_output_name{37};
constexpr Member<Status*(const MemoryInfo*, void* data, std::size_t bytes, const std::int64_t* shape, std::size_t rank,
                         int type, Value**)>
    create_tensor_with_data{49};
constexpr Member<Status*(Value*, void** data)> get_tensor_mutable_data{51};
constexpr Member<Status*(const TypeInfo*, const TensorInfo**)> cast_type_info_to_tensor_info{55};  // null: no tensor
constexpr Member<Status*(const TensorInfo*, int* type)> get_tensor_element_type{60};
constexpr Member<Status*(const TensorInfo*, std::size_t* rank)> get_dimensions_count{61};
constexpr Member<Status*(const TensorInfo*, std::int64_t* shape, std::size_t rank)> get_dimensions{62};
constexpr Member<Status*(const Value*, TensorInfo**)> get_tensor_type_and_shape{65};
constexpr Member<Status*(int allocator, int memory, MemoryInfo**)> create_cpu_memory_info{69};
constexpr Member<Status*(Allocator*, void*)> allocator_free{76};
constexpr Member<Status*(Allocator**)> get_default_allocator{78};  // it stays ONNX Runtime's
constexpr Member<void(Env*)> release_env{92};
constexpr Member<void(Status*)> release_status{93};
constexpr Member<void(MemoryInfo*)> release_memory_info{94};
constexpr Member<void(Session*)> release_session{95};
constexpr Member<void(Value*)> release_value{96};
constexpr Member<void(TypeInfo*)> release_type_info{98};
constexpr Member<void(TensorInfo*)> release_tensor_info{99};
constexpr Member<void(SessionOptions*)> release_session_options{100};
constexpr Member<Status*(const Session*, ModelMetadata**)> session_get_model_metadata{111};
constexpr Member<Status*(const ModelMetadata*, Allocator*, const char* key, char** value)> lookup_metadata{116};
constexpr Member<void(ModelMetadata*)> release_model_metadata{118};

}  // namespace ort

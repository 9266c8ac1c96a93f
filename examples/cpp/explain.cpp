// Explains a photo with a fused file (docs/fused.md) and ONNX Runtime's shared library: no Python, no code of cfcam's.
//
//     explain model.app.cam.onnx photo.ppm map.pgm [libonnxruntime.so]
//
// The file takes pixels and nothing else (`cfcam export --fused --fold-preprocessing uint8-nhwc --fixed-target top`).
// README.md beside this program says how to build and run it, and what a real product does instead.
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ort_abi.h"
#include "pictures.h"

namespace {

const char* const FORM = "`--fused --fold-preprocessing uint8-nhwc --fixed-target top`";

// ---------------------------------------------------------------------------------------------------- ONNX Runtime

/// The library's functions. The errors that they return are thrown.
class Runtime {
 public:
  explicit Runtime(const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: its threads may still be running
    if (!library)
      throw Problem("ONNX Runtime cannot be loaded (" + std::string(dlerror()) +
                    "): give the path of libonnxruntime.so as the fourth argument.");
    auto get_base = reinterpret_cast<const ort::ApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
    if (!get_base) throw Problem("'" + path + "' is not ONNX Runtime: give the path of libonnxruntime.so.");
    version_ = get_base()->get_version();
    table_ = get_base()->get_api(ort::api_version);
    if (!table_) throw Problem("ONNX Runtime " + version_ + " has no version 2 of its C API: take a newer one.");
    check_errors();
  }

  const std::string& version() const { return version_; }

  /// Calls a function that returns a status.
  template <class... Parameters, class... Arguments>
  void operator()(const ort::Member<ort::Status*(Parameters...)>& member, Arguments... arguments) const {
    ort::Status* status = member.in(table_)(arguments...);
    if (!status) return;
    std::string message = ort::get_error_message.in(table_)(status);
    ort::release_status.in(table_)(status);
    std::replace(message.begin(), message.end(), '\n', ' ');
    throw Problem("ONNX Runtime " + version_ + " says: " + message);
  }

  /// Calls a function whose last argument receives an object, and owns the object.
  template <class Object, class... Parameters, class... Arguments>
  auto make(const ort::Member<void(Object*)>& release, const ort::Member<ort::Status*(Parameters...)>& member,
            Arguments... arguments) const {
    Object* object = nullptr;
    (*this)(member, arguments..., &object);
    return own(object, release);
  }

  /// Owns an object, which `release` gives back.
  template <class Object>
  auto own(Object* object, const ort::Member<void(Object*)>& release) const {
    return std::unique_ptr<Object, void (*)(Object*)>(object, release.in(table_));
  }

  /// What `ask(allocator, &text)` receives, copied; none where there is no such text.
  template <class Ask>
  std::optional<std::string> text(Ask ask) const {
    ort::Allocator* allocator = nullptr;
    char* received = nullptr;
    (*this)(ort::get_default_allocator, &allocator);
    ask(allocator, &received);
    if (!received) return std::nullopt;
    std::string copied = received;
    (*this)(ort::allocator_free, allocator, received);
    return copied;
  }

 private:
  /// An error there and back: if the table were another, its first functions would show it.
  void check_errors() const {
    ort::Status* status = ort::create_status.in(table_)(ort::code_fail, "there and back");
    bool same = status && ort::get_error_code.in(table_)(status) == ort::code_fail &&
                std::strcmp(ort::get_error_message.in(table_)(status), "there and back") == 0;
    if (!same) throw Problem("ONNX Runtime " + version_ + " has another table of functions: take an official build.");
    ort::release_status.in(table_)(status);
  }

  std::string version_;
  ort::Table table_ = nullptr;
};

struct TypeAndShape {
  int type = 0;
  std::vector<std::int64_t> shape;  // -1: free
};

TypeAndShape described(const Runtime& runtime, const ort::TensorInfo* info) {
  TypeAndShape result;
  std::size_t rank = 0;
  runtime(ort::get_tensor_element_type, info, &result.type);
  runtime(ort::get_dimensions_count, info, &rank);
  result.shape.resize(rank);
  runtime(ort::get_dimensions, info, result.shape.data(), rank);
  return result;
}

TypeAndShape described(const Runtime& runtime, const ort::Value* value) {
  auto info = runtime.make(ort::release_tensor_info, ort::get_tensor_type_and_shape, value);
  return described(runtime, info.get());
}

// ------------------------------------------------------------------------------------------------------- the model

/// The word behind these keys, from the outermost to the innermost, in the order of a CamSpec; "" where there is none.
/// A text inside the document cannot be taken for a key: its quotes are escaped, and no colon follows a list's entry.
std::string word(const std::string& spec, std::initializer_list<const char*> keys) {
  std::size_t place = 0;
  for (const char* key : keys) {
    place = spec.find("\"" + std::string(key) + "\": ", place);
    if (place == std::string::npos) return "";
    place += std::strlen(key) + 4;
  }
  std::string value = spec.substr(place, spec.find_first_of(",}]", place) - place);
  value.erase(std::remove(value.begin(), value.end(), '"'), value.end());
  return value;
}

/// An open file: takes one picture, gives its class and map.
class Model {
 public:
  Model(const Runtime& runtime, const std::string& path)
      : runtime_(runtime),
        environment_(runtime.make(ort::release_env, ort::create_env, ort::log_fatal, "explain")),
        options_(runtime.make(ort::release_session_options, ort::create_session_options)),
        session_(opened(path)) {
    const auto metadata = runtime.make(ort::release_model_metadata, ort::session_get_model_metadata, session_.get());
    const auto spec = runtime.text([&](ort::Allocator* allocator, char** text) {
      runtime(ort::lookup_metadata, metadata.get(), allocator, "cfcam.spec", text);
    });
    auto refuse = [&](const std::string& why) {
      throw Problem("'" + path + "' " + why + ": export the model again with " + FORM + ".");
    };
    if (!spec) refuse("is not a file of cfcam's");
    const auto names = output_names();
    for (const char* name : {"cam_map", "cam_class", "cam_empty"})
      if (std::find(names.begin(), names.end(), name) == names.end())
        refuse("has no output '" + std::string(name) + "'");
    std::size_t inputs = 0;
    runtime(ort::session_get_input_count, session_.get(), &inputs);
    if (inputs != 1) refuse("takes more than an image");
    input_ = *runtime.text([&](ort::Allocator* allocator, char** text) {
      runtime(ort::session_get_input_name, session_.get(), std::size_t(0), allocator, text);
    });
    const auto type =
        runtime.make(ort::release_type_info, ort::session_get_input_type_info, session_.get(), std::size_t(0));
    const ort::TensorInfo* info = nullptr;
    runtime(ort::cast_type_info_to_tensor_info, type.get(), &info);
    if (!info) refuse("takes no image");
    const auto [kind, shape] = described(runtime, info);
    if (kind != ort::type_uint8 || shape.size() != 4 || word(*spec, {"input", "layout"}) != "NHWC")
      refuse("takes no uint8 pixels row by row");
    color_ = word(*spec, {"input", "color"});
    if (shape[0] > 1 || shape[1] < 1 || shape[2] < 1 || shape[3] != 3 || (color_ != "rgb" && color_ != "bgr"))
      throw Problem("'" + path + "' does not take one colour photo of a fixed size as pixels (height, width, 3), " +
                    "which is all that this program makes: explain with `cfcam explain`.");
    height_ = int(shape[1]);
    width_ = int(shape[2]);
    stretches_ = word(*spec, {"input", "resize", "mode"}) == "stretch" &&
                 word(*spec, {"input", "resize", "size"}) == "null" &&
                 word(*spec, {"input", "resize", "interpolation"}) == "bilinear";
  }

  /// The photo as the model's input: as it is if it has the input's size, else stretched if the file asks for that.
  Picture prepared(const Picture& photo) const {
    if (photo.width == width_ && photo.height == height_) return photo;
    if (stretches_) return stretched(photo, width_, height_);
    const std::string size = std::to_string(width_) + " x " + std::to_string(height_);
    throw Problem(
        "the photo has " + std::to_string(photo.width) + " x " + std::to_string(photo.height) +
        " pixels and the file takes " + size +
        ", scaled in a way that this program does not know: give a photo of that size, or export the file again "
        "with `--resize stretch --interpolation bilinear`.");
  }

  struct Answer {
    int index;
    bool empty;
    int width, height;
    std::vector<float> map;
  };

  Answer explained(Picture input) const {
    if (color_ == "bgr")
      for (std::size_t i = 0; i < input.pixels.size(); i += 3) std::swap(input.pixels[i], input.pixels[i + 2]);
    const auto memory = runtime_.make(ort::release_memory_info, ort::create_cpu_memory_info, ort::device_allocator,
                                      ort::default_memory);
    const std::int64_t shape[] = {1, height_, width_, 3};
    const auto tensor = runtime_.make(ort::release_value, ort::create_tensor_with_data, memory.get(),
                                      static_cast<void*>(input.pixels.data()), input.pixels.size(), shape,
                                      std::size_t(4), ort::type_uint8);
    if (data<std::uint8_t>(tensor.get()) != input.pixels.data() ||
        described(runtime_, tensor.get()).shape != std::vector<std::int64_t>(shape, shape + 4))
      throw Problem("ONNX Runtime " + runtime_.version() +
                    " does not give a tensor back as it got it: take an official build.");

    const char* inputs[] = {input_.c_str()};
    const ort::Value* given[] = {tensor.get()};
    const char* outputs[] = {"cam_map", "cam_class", "cam_empty"};
    ort::Value* raw[3] = {};
    runtime_(ort::run, session_.get(), nullptr, inputs, given, std::size_t(1), outputs, std::size_t(3), raw);
    const auto map = runtime_.own(raw[0], ort::release_value), index = runtime_.own(raw[1], ort::release_value),
               empty = runtime_.own(raw[2], ort::release_value);

    const auto is = described(runtime_, map.get());
    if (is.type != ort::type_float || is.shape.size() != 3 || is.shape[0] != 1 ||
        described(runtime_, index.get()).type != ort::type_int32 ||
        described(runtime_, empty.get()).type != ort::type_int32)
      throw Problem(
          std::string("the file's outputs are not those of a file with a fixed class: export it again with ") + FORM +
          ".");
    const float* values = data<float>(map.get());
    return {data<std::int32_t>(index.get())[0], data<std::int32_t>(empty.get())[0] != 0, int(is.shape[2]),
            int(is.shape[1]), std::vector<float>(values, values + is.shape[1] * is.shape[2])};
  }

 private:
  template <class Object>
  using Owned = std::unique_ptr<Object, void (*)(Object*)>;

  Owned<ort::Session> opened(const std::string& path) {
    runtime_(ort::set_intra_op_num_threads, options_.get(), 1);  // so that a photo has the same map, to the last bit
    try {
      return runtime_.make(ort::release_session, ort::create_session, environment_.get(), path.c_str(), options_.get());
    } catch (const Problem& problem) {
      throw Problem("'" + path + "' cannot be opened (" + problem.what() +
                    "): give a file that `cfcam check` accepts.");
    }
  }

  std::vector<std::string> output_names() const {
    std::vector<std::string> names;
    std::size_t count = 0;
    runtime_(ort::session_get_output_count, session_.get(), &count);
    for (std::size_t i = 0; i < count; i++)
      names.push_back(*runtime_.text([&](ort::Allocator* allocator, char** text) {
        runtime_(ort::session_get_output_name, session_.get(), i, allocator, text);
      }));
    return names;
  }

  template <class Element>
  Element* data(ort::Value* value) const {
    void* pointer = nullptr;
    runtime_(ort::get_tensor_mutable_data, value, &pointer);
    return static_cast<Element*>(pointer);
  }

  const Runtime& runtime_;
  Owned<ort::Env> environment_;
  Owned<ort::SessionOptions> options_;
  Owned<ort::Session> session_;
  std::string input_, color_;
  int width_ = 0, height_ = 0;
  bool stretches_ = false;
};

void explain(const std::string& file, const std::string& photo_path, const std::string& map_path,
             const std::string& library) {
  const Runtime runtime(library);
  const Model model(runtime, file);
  const Picture photo = read_ppm(photo_path);
  const auto answer = model.explained(model.prepared(photo));
  write_map(map_path, answer.map.data(), answer.width, answer.height);
  if (answer.empty) {
    std::cout << "class " << answer.index << ": the map is empty, and means nothing\n";
    return;
  }
  const auto peak = std::max_element(answer.map.begin(), answer.map.end()) - answer.map.begin();
  const double x = (double(peak % answer.width) + 0.5) * photo.width / answer.width;
  const double y = (double(peak / answer.width) + 0.5) * photo.height / answer.height;
  std::cout << "class " << answer.index << ", peak at x " << int(x) << ", y " << int(y) << " of " << photo.width
            << " x " << photo.height << '\n';
}

}  // namespace

int main(int count, char** words) {
  if (count < 4 || count > 5) {
    std::cerr << "usage: explain model.app.cam.onnx photo.ppm map.pgm [libonnxruntime.so]\n";
    return 2;
  }
  try {
    explain(words[1], words[2], words[3], count == 5 ? words[4] : "libonnxruntime.so.1");
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}

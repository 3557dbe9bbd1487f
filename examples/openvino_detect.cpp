// Detect in a picture with an exported file, its contract, and nothing but OpenVINO's C++ library and nlohmann's JSON.
//
//     ov=$(python -c "import openvino, pathlib; print(pathlib.Path(openvino.__file__).parent)")
//     g++ -std=c++17 -O2 openvino_detect.cpp -I$ov/include -o detect $ov/libs/libopenvino.so.* -Wl,-rpath,$ov/libs
//     convert street.jpg street.ppm       # ImageMagick: this program reads PPM alone
//     ./detect best.contract.json street.ppm [score]
//
// The file (ONNX, or the folder of OpenVINO) lies beside its contract. Prints a line for every box, best first: class,
// score, x1 y1 x2 y2 in pixels of the picture. Ends with 2, after a line that says why, where a file cannot be used.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <openvino/openvino.hpp>
#include <string>
#include <vector>

using Json = nlohmann::json;
namespace fs = std::filesystem;

struct Picture {
  int width = 0, height = 0;
  std::vector<unsigned char> data;  // red, green, blue of each pixel
};

struct Box {
  float x1, y1, x2, y2, score;
  int number;
};

struct Input {
  std::vector<float> data;  // planes of red, green and blue, 0 to 1
  float scale;
  int left, top;
};

[[noreturn]] void end(const std::string& line) {
  std::cerr << line << '\n';
  std::exit(2);
}

Picture read_picture(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  Picture picture;
  int most = 0;
  if (!(file >> kind >> picture.width >> picture.height >> most) || kind != "P6" || most != 255)
    end(path + ": not a binary PPM picture (P6, 255).");
  file.get();
  picture.data.resize(3ul * picture.width * picture.height);
  if (!file.read(reinterpret_cast<char*>(picture.data.data()), picture.data.size())) end(path + ": ends too early.");
  return picture;
}

// Scale a picture bilinearly so that it fits, centre it, fill the margins.
Input letterbox(const Picture& picture, int height, int width, float margin) {
  const float scale = std::min(float(height) / picture.height, float(width) / picture.width);
  const int inner_w = std::lrint(picture.width * scale), inner_h = std::lrint(picture.height * scale);
  Input input{std::vector<float>(3ul * height * width, margin), scale, 0, 0};
  input.left = std::lrint((width - inner_w) / 2.0 - 0.1);
  input.top = std::lrint((height - inner_h) / 2.0 - 0.1);
  // Weights in parts of 2048 and the order of roundings are those of OpenCV's resize, so that the input is equal to it.
  auto place = [](int i, int from, int to, int& low, int& high, int& share) {
    const float at = std::clamp((i + 0.5f) * (float(from) / to) - 0.5f, 0.0f, float(from - 1));
    low = int(at);
    high = std::min(low + 1, from - 1);
    share = int(std::lrint((at - low) * 2048));
  };
  for (int y = 0; y < inner_h; y++) {
    int upper, lower, down, left, right, across;
    place(y, picture.height, inner_h, upper, lower, down);
    for (int x = 0; x < inner_w; x++) {
      place(x, picture.width, inner_w, left, right, across);
      for (int c = 0; c < 3; c++) {
        auto line = [&](int row) {
          auto pixel = [&](int column) { return int(picture.data[3ul * (size_t(row) * picture.width + column) + c]); };
          return pixel(left) * (2048 - across) + pixel(right) * across;
        };
        const int sum = (((2048 - down) * (line(upper) >> 4)) >> 16) + ((down * (line(lower) >> 4)) >> 16);
        input.data[(size_t(c) * height + input.top + y) * width + input.left + x] = ((sum + 2) >> 2) / 255.0f;
      }
    }
  }
  return input;
}

float overlap(const Box& a, const Box& b) {
  const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1), height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  if (width <= 0 || height <= 0) return 0;
  const float both = width * height;
  return both / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - both);
}

// Read [1, 4 + classes, anchors]: best class of each anchor, threshold, suppression within each class.
std::vector<Box> read_boxes(const float* output, size_t classes, size_t anchors, const Json& rule, float conf) {
  std::vector<Box> found, kept;
  for (size_t i = 0; i < anchors; i++) {
    Box box{0, 0, 0, 0, conf, -1};
    for (size_t c = 0; c < classes; c++)
      if (const float score = output[(4 + c) * anchors + i]; score > box.score) box.score = score, box.number = int(c);
    if (box.number < 0) continue;
    const float x = output[i], y = output[anchors + i], w = output[2 * anchors + i], h = output[3 * anchors + i];
    box.x1 = x - w / 2, box.y1 = y - h / 2, box.x2 = x + w / 2, box.y2 = y + h / 2;
    found.push_back(box);
  }
  std::stable_sort(found.begin(), found.end(), [](const Box& a, const Box& b) { return a.score > b.score; });
  const float iou = rule["iou"];
  const bool agnostic = rule["agnostic_nms"];
  for (const Box& box : found) {
    auto covers = [&](const Box& k) { return (agnostic || k.number == box.number) && overlap(k, box) > iou; };
    if (kept.size() < rule["max_det"] && std::none_of(kept.begin(), kept.end(), covers)) kept.push_back(box);
  }
  return kept;
}

int main(int count, char** words) {
  if (count < 3) end("usage: detect best.contract.json street.ppm [score]");
  std::ifstream file(words[1]);
  const Json contract = Json::parse(file, nullptr, false);
  if (contract.is_discarded() || !contract.contains("contract")) end(std::string(words[1]) + ": not a contract.");
  if (contract["task"] != "detect" || contract["suppression"]["inside"] || contract["input"]["layout"] != "NCHW")
    end(std::string(words[1]) + ": this example reads detectors whose boxes are suppressed after the network.");
  const Picture picture = read_picture(words[2]);
  const Json& shape = contract["input"]["shape"];
  if (shape[2].is_null()) end(std::string(words[1]) + ": the input has any size; export without dynamic=True.");
  const int height = shape[2], width = shape[3];
  const float conf = count > 3 ? std::stof(words[3]) : float(contract["suppression"]["conf"]);
  Input input = letterbox(picture, height, width, float(contract["preprocessing"]["margin"]) / 255);

  fs::path model = fs::path(words[1]).parent_path() / std::string(contract["file"]);
  if (fs::is_directory(model))
    for (const auto& entry : fs::directory_iterator(model))
      if (entry.path().extension() == ".xml") model = entry.path();
  if (!fs::is_regular_file(model)) end(model.string() + ": not there; it lies beside its contract.");
  ov::Core core;
  // Float32 throughout: on processors with AMX OpenVINO's own choice is bfloat16.
  auto compiled = core.compile_model(core.read_model(model.string()), "CPU", ov::hint::inference_precision(ov::element::f32));
  auto request = compiled.create_infer_request();
  request.set_input_tensor(ov::Tensor(ov::element::f32, {1, 3, size_t(height), size_t(width)}, input.data.data()));
  request.infer();
  const ov::Tensor output = request.get_output_tensor(0);
  const size_t classes = contract["names"].size(), anchors = output.get_shape()[2];

  for (const Box& b : read_boxes(output.data<float>(), classes, anchors, contract["suppression"], conf)) {
    auto across = [&](float x) { return std::clamp((x - input.left) / input.scale, 0.0f, float(picture.width)); };
    auto down = [&](float y) { return std::clamp((y - input.top) / input.scale, 0.0f, float(picture.height)); };
    const std::string name = contract["names"][std::to_string(b.number)];
    std::printf("%s %.4f %.2f %.2f %.2f %.2f\n", name.c_str(), b.score, across(b.x1), down(b.y1), across(b.x2), down(b.y2));
  }
}
